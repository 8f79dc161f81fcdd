"""Exercises of notebooks/10_which_representation.ipynb."""

from hashlib import sha1

import numpy as np
import torch

from .core import Case, exercise, said

# ---------------------------------------------------------------- 10.1


def tasks_and_hidden_states() -> list[Case]:
    """(task, hidden, attention_mask); the vectors at [PAD] are not zero."""
    draw = torch.Generator().manual_seed(10)
    hidden = torch.randn(3, 5, 2, generator=draw)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    one = torch.randn(1, 4, 3, generator=draw)
    return [
        Case("classify a text", "classify a text", hidden, mask),
        Case("compare two texts", "compare two texts", hidden, mask),
        Case("search many texts, a batch of one", "search many texts", one, torch.ones(1, 4, dtype=torch.long)),
        Case("tag words", "tag words", hidden, mask),
        Case("find an answer in a text", "find an answer in a text", hidden, mask),
        Case("classify a text, a batch of one", "classify a text", one, torch.ones(1, 4, dtype=torch.long)),
    ]


@exercise(
    "10.1",
    "Which vectors does the task read?",
    "easy",
    cases=tasks_and_hidden_states,
    hints=[
        "Ask the guide about each of the five tasks: print(bl.recommend(task, 'hundreds or more').representation). You will see three kinds of answers.",
        "The three kinds by shape: the vector at position 0 is hidden[:, 0], (B, H). The mean over real tokens is (B, H) too, and needs the mask. Every token's own vector is hidden itself, (B, T, H).",
        "'tag words' and 'find an answer in a text': return hidden. 'compare two texts' and 'search many texts': with mask = attention_mask.unsqueeze(-1), return (hidden * mask).sum(1) / mask.sum(1). "
        "'classify a text': return hidden[:, 0].",
    ],
    why="The encoder does the same for every task. What differs is which of its vectors you read, and the task decides that before any training.",
)
def vectors_to_read(task, hidden, attention_mask):
    if task in ("tag words", "find an answer in a text"):
        return hidden  # (B, T, H): the answer lies in the text, so each token keeps its vector
    if task in ("compare two texts", "search many texts"):
        mask = attention_mask.unsqueeze(-1)  # (B, T, 1)
        return (hidden * mask).sum(1) / mask.sum(1)  # (B, H): the mean over real tokens
    return hidden[:, 0]  # (B, H): [CLS], which a head reads after fine-tuning


@vectors_to_read.mistake("You read [CLS] for every task. Fine-tuned for labels that is right. To compare and search, the guide takes the mean; to tag words or find an answer, every token's own vector.")
def always_cls(task, hidden, attention_mask):
    return hidden[:, 0]


@vectors_to_read.mistake(
    "You take the mean for every task. Words to tag and answers to find need a vector for each token, and pooling would destroy those. A fine-tuned classifier reads [CLS]."
)
def always_the_mean(task, hidden, attention_mask):
    mask = attention_mask.unsqueeze(-1)
    return (hidden * mask).sum(1) / mask.sum(1)


@vectors_to_read.mistake("Here you take the mean to classify. It can work as well (notebook 06), but the guide reads [CLS], on which the classifier's head lies.")
def mean_to_classify(task, hidden, attention_mask):
    return vectors_to_read.solution("compare two texts" if task == "classify a text" else task, hidden, attention_mask)


@vectors_to_read.mistake("Here you read [CLS] to compare and to search. For that the guide takes the mean over real tokens.")
def cls_to_compare(task, hidden, attention_mask):
    return hidden[:, 0] if task in ("compare two texts", "search many texts") else vectors_to_read.solution(task, hidden, attention_mask)


@vectors_to_read.mistake("The right kind of vector, but your mean counts the padding. Multiply by attention_mask.unsqueeze(-1) and divide by the number of real tokens.")
def padding_in_the_mean(task, hidden, attention_mask):
    if task in ("compare two texts", "search many texts"):
        return hidden.mean(1)
    return vectors_to_read.solution(task, hidden, attention_mask)


@vectors_to_read.mistake("hidden[0] is the first text with all its tokens. The first token of every text is hidden[:, 0].")
def first_text_instead_of_first_token(task, hidden, attention_mask):
    return hidden[0] if task == "classify a text" else vectors_to_read.solution(task, hidden, attention_mask)


@vectors_to_read.mistake("An answer in a text is a start and an end, so every position needs a score of its own. One vector for the text cannot say where: return all of hidden.")
def one_vector_for_an_answer(task, hidden, attention_mask):
    return hidden[:, 0] if task == "find an answer in a text" else vectors_to_read.solution(task, hidden, attention_mask)


# ---------------------------------------------------------------- 10.2


def finders() -> list[Case]:
    """(cosines, found, target, threshold); target -1: no question of the index answers it."""
    cosines = np.array([0.9, 0.75, 0.5, 0.25, 0.625, 0.125, 0.375, 0.875])
    found, target = np.array([3, 1, 0, 2, 5, 4, 6, 7]), np.array([3, 2, 0, 2, 5, 1, 0, 1])
    return [
        Case("eight wordings", cosines, found, target, 0.6),
        Case("a cosine that equals the threshold", cosines, found, target, 0.5),
        Case("some have no answer in the index", cosines, found, np.array([3, -1, 0, 2, -1, -1, 6, 7]), 0.3),
        Case("a threshold that refuses all", cosines, found, target, 0.95),
        Case("a threshold that refuses none", cosines, found, target, 0.0),
        Case("a single wording", np.array([0.5]), np.array([2]), np.array([2]), 0.25),
    ]


@exercise(
    "10.2",
    "Right, wrong, refused",
    "medium",
    cases=finders,
    parts=("right", "wrong", "refused"),
    hints=[
        "Every wording ends in one of three ways, so the three shares add up to 1. First ask: does the finder answer at all? Only then: is the answer right?",
        "answered = cosines >= threshold and correct = found == target are (N,), True or False. With & both must hold, with ~ you turn one over. The mean of such an array is a share of all N.",
        "return (answered & correct).mean(), (answered & ~correct).mean(), (~answered).mean()",
    ],
    why="A finder has two ways to fail, and they cost differently: a refusal sends the reader to a person, a wrong answer sends the reader off with something false. One accuracy hides which of them it is.",
)
def finder_shares(cosines, found, target, threshold):
    answered = cosines >= threshold  # (N,): below it the finder says "I do not know"
    correct = found == target  # (N,): never where the target is -1
    return (answered & correct).mean(), (answered & ~correct).mean(), (~answered).mean()  # shares of all N


@finder_shares.mistake("You count as right what the finder never said: below the threshold it refuses, even if it found the right question. Right is answered and correct.")
def right_but_refused_counts_as_right(cosines, found, target, threshold):
    refused = (cosines < threshold).mean()
    correct = (found == target).mean()
    return correct, ((cosines >= threshold) & (found != target)).mean(), refused


@finder_shares.mistake("You divide by the number of answered wordings. A finder that refuses nearly everything would look perfect. All three are shares of all N.")
def shares_of_the_answered(cosines, found, target, threshold):
    answered, correct = cosines >= threshold, found == target
    of = max(1, answered.sum())
    return (answered & correct).sum() / of, (answered & ~correct).sum() / of, (~answered).mean()


@finder_shares.mistake("A cosine that equals the threshold is answered: >= and not >.")
def strictly_above(cosines, found, target, threshold):
    answered, correct = cosines > threshold, found == target
    return (answered & correct).mean(), (answered & ~correct).mean(), (~answered).mean()


@finder_shares.mistake("You count a refusal as right where the index has no answer. It is a good refusal, but a refusal: right is answered and correct.")
def good_refusals_count_as_right(cosines, found, target, threshold):
    right, wrong, refused = finder_shares.solution(cosines, found, target, threshold)
    good = ((cosines < threshold) & (target == -1)).mean()
    return right + good, wrong, refused - good


@finder_shares.mistake("Those are counts. Divide by N, or take the mean of the True and False instead of their sum.")
def counts(cosines, found, target, threshold):
    answered, correct = cosines >= threshold, found == target
    return (answered & correct).sum(), (answered & ~correct).sum(), (~answered).sum()


@finder_shares.mistake("You count refusals among the wrong answers, so your three shares add up to more than 1. Wrong is answered and not correct.")
def refusals_count_as_wrong(cosines, found, target, threshold):
    right = ((cosines >= threshold) & (found == target)).mean()
    return right, 1 - right, (cosines < threshold).mean()


# ---------------------------------------------------------------- 10.3


def rows_of_questions() -> list[Case]:
    """(questions, folds): the question that each row belongs to."""
    from ..datasets import faq

    library = [f.question for f in faq() for _ in f.wordings]
    return [
        Case("two questions, two folds", ["hours?", "hours?", "card?", "card?", "hours?"], 2),
        Case("the rows of a question lie apart", ["hours?", "card?", "fines?", "hours?", "parking?", "card?", "hours?", "fines?"], 2),
        Case("one question has most of the rows", ["hours?"] * 6 + ["card?", "fines?", "parking?", "card?"], 2),
        Case("seven questions, three folds", [f"{name}?" for name in "a b c d e f g a c e g b".split()], 3),
        Case("as many folds as questions", ["card?", "hours?", "fines?", "card?"], 3),
        Case("the 240 wordings of the library, four folds", library, 4),
    ]


ONE_A_ROW = "Give a fold for every row, in the order of the rows. Rows of the same question repeat its fold."
FROM_ZERO = "Number the folds from 0: with 3 folds that is 0, 1 and 2."
TOGETHER = "A model trained on one of these rows has already seen the question that the other row tests. Choose a fold for each different question, not for each row."
EVENLY = (
    "The numbers of questions may differ by one at most. Count questions, not rows, and do not leave it to a hash or to chance: list the different questions and deal them out in turn."
)


def folds_problem(result, questions, folds) -> str:
    """What is wrong with the folds of the rows, "" if nothing."""
    if len(result) != len(questions):
        return f"there are {len(questions)} rows, and your result has {len(result)} entries. {ONE_A_ROW}"
    numbers = [int(number) for number in result]
    if not set(numbers) <= set(range(folds)):
        return f"with {folds} folds, your result holds {said(sorted(set(numbers)))}. {FROM_ZERO}"
    fold_of: dict = {}
    for question, number in zip(questions, numbers):
        if fold_of.setdefault(question, number) != number:
            return f"rows of the question {question!r} are in fold {fold_of[question]} and in fold {number}. {TOGETHER}"
    sizes = [list(fold_of.values()).count(fold) for fold in range(folds)]
    return f"the folds hold {said(sizes)} questions. {EVENLY}" if max(sizes) - min(sizes) > 1 else ""


@exercise(
    "10.3",
    "Keep a question together",
    "hard",
    cases=rows_of_questions,
    judge=folds_problem,
    hints=[
        "Decide for questions, then look up the rows. First you need a list in which each question stands once.",
        "list(dict.fromkeys(questions)) is that list. Deal its entries out like cards: the first to fold 0, the second to fold 1, and after the last fold begin again. The remainder place % folds does just that.",
        "fold_of = {question: place % folds for place, question in enumerate(dict.fromkeys(questions))} gives every question its fold. Every row then looks up its own: [fold_of[question] for question in questions].",
    ],
    why="Wordings of one question are alike. If a model trains on some and is tested on the others, the test asks what it has learnt by heart, and the figure is too good.",
)
def folds_by_question(questions, folds):
    different = dict.fromkeys(questions)  # each question once, in the order of the rows
    fold_of = {question: place % folds for place, question in enumerate(different)}  # dealt out like cards
    return [fold_of[question] for question in questions]  # a fold for each row


@folds_by_question.mistake(TOGETHER)
def rows_dealt_out(questions, folds):
    return [row % folds for row in range(len(questions))]


@folds_by_question.mistake(ONE_A_ROW)
def one_number_a_question(questions, folds):
    return [place % folds for place in range(len(set(questions)))]


@folds_by_question.mistake(FROM_ZERO)
def folds_from_one(questions, folds):
    different = list(dict.fromkeys(questions))
    return [1 + different.index(question) % folds for question in questions]


@folds_by_question.mistake(EVENLY)
def fold_by_hash(questions, folds):
    return [int(sha1(question.encode()).hexdigest(), 16) % folds for question in questions]
