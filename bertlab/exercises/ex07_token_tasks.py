"""Exercises of notebooks/07_token_tasks.ipynb."""

import re

import torch

from .core import Case, exercise

# ---------------------------------------------------------------- 07.1


def cut_sentences() -> list[Case]:
    """(word_ids, word_labels): the word of each position, and the label of each word."""
    return [
        Case("no word is cut", [None, 0, 1, 2, None], [1, 0, 5]),
        Case("the first word is cut into three pieces", [None, 0, 0, 0, 1, 1, 2, 3, None], [1, 2, 0, 5]),
        Case("a cut word at the end, then padding", [None, 0, 1, 2, 2, None, None, None], [0, 0, 3]),
        Case("a long sentence whose last words were cut off", [None, 0, 1, 1, 2, None], [5, 6, 0, 0, 1, 0]),
        Case("no word at all", [None, None], []),
    ]


@exercise(
    "07.1",
    "Labels for word pieces",
    "easy",
    cases=cut_sentences,
    hints=[
        "Go through word_ids once. A position gets a label if it has a word, and if this word is another one than at the position before.",
        "Keep the number of the word before in a variable, None at the start. Otherwise the label is -100: the number that the loss leaves out.",
        "first = word is not None and word != previous; labels.append(word_labels[word] if first else -100); previous = word. These three lines stand in the loop.",
    ],
    why="Each word counts once in the loss, however many pieces it has, and no label can slip onto the piece of another word.",
)
def piece_labels(word_ids, word_labels):
    labels, previous = [], None
    for word in word_ids:  # one step a position; None at [CLS], [SEP] and padding
        first = word is not None and word != previous
        labels.append(word_labels[word] if first else -100)
        previous = word
    return labels  # T numbers


@piece_labels.mistake("You use -1 where nothing should count. PyTorch's cross-entropy leaves out -100 and no other number; a class -1 does not exist.")
def minus_one(word_ids, word_labels):
    return [-1 if label == -100 else label for label in piece_labels.solution(word_ids, word_labels)]


@piece_labels.mistake("Every piece of a word gets its label, so a word of three pieces counts three times. Only the first piece gets it, the others -100.")
def label_on_every_piece(word_ids, word_labels):
    return [-100 if word is None else word_labels[word] for word in word_ids]


@piece_labels.mistake("[CLS], [SEP] and padding get label 0, which is the tag O. They are no words at all: give them -100.")
def special_tokens_are_outside(word_ids, word_labels):
    return [0 if word is None else label for word, label in zip(word_ids, piece_labels.solution(word_ids, word_labels))]


@piece_labels.mistake("You lay label i on piece i, right behind [CLS]. After the first cut word every label sits on the wrong piece. Ask word_ids which word a piece belongs to.")
def label_by_position(word_ids, word_labels):
    return ([-100, *word_labels] + [-100] * len(word_ids))[: len(word_ids)]


# ---------------------------------------------------------------- 07.2


def tagged_sentences() -> list[Case]:
    """(tags,): one BIO tag a word."""
    return [
        Case("one name of two words", ["O", "B-PER", "I-PER", "O"]),
        Case("a name at each end of the sentence", ["B-LOC", "O", "O", "B-ORG", "I-ORG", "I-ORG"]),
        Case("two persons side by side", ["O", "B-PER", "B-PER", "I-PER", "O"]),
        Case("the kind changes inside", ["B-PER", "I-LOC", "I-LOC", "O"]),
        Case("I- after O", ["O", "I-MISC", "I-MISC", "O", "B-LOC", "O"]),
        Case("an O between a name and an I- of its kind", ["B-PER", "O", "I-PER", "O"]),
        Case("no name", ["O", "O", "O"]),
        Case("no word", []),
    ]


@exercise(
    "07.2",
    "From tags to names",
    "medium",
    cases=tagged_sentences,
    hints=[
        "At each tag there are two questions: does it continue the name before it, or does it begin a new one? An O does neither.",
        'Keep the names in a list. A tag continues the last name only if three things hold: it begins with "I-", its kind is that of the last name, and the last name ends exactly at this word.',
        'prefix, _, kind = tag.partition("-"). If prefix == "I" and found and found[-1][0] == kind and found[-1][2] == i: found[-1] = (kind, found[-1][1], i + 1). Else, if prefix is "B" or "I": found.append((kind, i, i + 1)).',
    ],
    why="Scores of named entities count whole names. Where a name ends is therefore a part of the score, and code that reads it wrongly moves F1 without any error.",
)
def names_in(tags):
    found = []  # (kind, first word, the word after the last)
    for i, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")  # "B-PER" -> "B", "PER"; "O" -> "O", ""
        if prefix == "I" and found and found[-1][0] == kind and found[-1][2] == i:
            found[-1] = (kind, found[-1][1], i + 1)  # the last name becomes one word longer
        elif prefix != "O":
            found.append((kind, i, i + 1))  # a B-, or an I- that continues nothing
    return found


@names_in.mistake("Two names of one kind that stand side by side became one. A B- always begins a new name, also right behind another name.")
def neighbours_merged(tags):
    found = []
    for i, tag in enumerate(tags):
        kind = tag[2:]
        if kind and found and found[-1][0] == kind and found[-1][2] == i:
            found[-1] = (kind, found[-1][1], i + 1)
        elif kind:
            found.append((kind, i, i + 1))
    return found


@names_in.mistake("Your end is the last word of the name. The end that is asked for is one further, as in words[start:end].")
def end_is_the_last_word(tags):
    return [(kind, start, end - 1) for kind, start, end in names_in.solution(tags)]


@names_in.mistake("A name that reaches the end of the sentence is lost. You note a name when the next tag closes it, and after the last word nothing does: close the open name after the loop.")
def last_name_lost(tags):
    return [name for name in names_in.solution(tags) if name[2] < len(tags)]


@names_in.mistake("An I- that continues nothing is lost. Here it begins a name, as in CoNLL's scorer: a model may well say I- where B- was right.")
def stray_inside_dropped(tags):
    found, open_ = [], False
    for i, tag in enumerate(tags):
        if tag.startswith("B-"):
            found.append((tag[2:], i, i + 1))
            open_ = True
        elif tag.startswith("I-") and open_ and found[-1][0] == tag[2:]:
            found[-1] = (found[-1][0], found[-1][1], i + 1)
        else:
            open_ = False
    return found


@names_in.mistake("An I- made a name longer that had ended before: an O stood between them. It continues a name only if that name ends right before it.")
def end_not_compared(tags):
    found = []
    for i, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        if prefix == "I" and found and found[-1][0] == kind:
            found[-1] = (kind, found[-1][1], i + 1)
        elif prefix != "O":
            found.append((kind, i, i + 1))
    return found


@names_in.mistake("An I- of another kind made the name before it longer. I-LOC cannot continue a person: compare the kinds, and begin a new name if they differ.")
def kind_not_compared(tags):
    found = []
    for i, tag in enumerate(tags):
        if tag.startswith("I-") and found and found[-1][2] == i:
            found[-1] = (found[-1][0], found[-1][1], i + 1)
        elif tag != "O":
            found.append((tag[2:], i, i + 1))
    return found


# ---------------------------------------------------------------- 07.3


def window(name: str, question: str, passage: str, answer: str, pieces: str = r"\w+|[^\w\s]", skip: int = 0) -> Case:
    """[CLS] question [SEP] passage [SEP] cut by a pattern; skip leaves out the passage's first characters, as a later window does."""
    offsets, parts = [(0, 0)], [None]
    for part, text in enumerate((question, passage)):
        spans = [m.span() for m in re.finditer(pieces, text) if part == 0 or m.start() >= skip]
        offsets += [*spans, (0, 0)]
        parts += [part] * len(spans) + [None]
    start = passage.index(answer) if answer else -1
    return Case(name, offsets, parts, start, start + len(answer))


def windows() -> list[Case]:
    """(offsets, sequence_ids, start, end) of a question and a passage."""
    return [
        window("an answer of two words", "Who rang the bell?", "Late at night Ann Lee rang the bell.", "Ann Lee"),
        window("one word at the start of the passage", "What is slow?", "Yeast is slow in winter.", "Yeast"),
        window('"12" in "12%"', "By how much did the town grow?", "The town grew by 12% in May.", "12"),
        window('"40" in "$40"', "How much did they pay for it?", "In the end they paid $40 and no more.", "40"),
        window('"German" in "Germans"', "Of which nationality were the guests who came late?", "Some Germans came late.", "German"),
        window("a question without an answer", "Who sold the mill?", "Ann Lee built the mill.", ""),
        window('"12" in "(12)", which is one token', "By how much did it grow?", "The town grew by (12) in May.", "12", pieces=r"\S+"),
        window("a window that begins inside the answer", "Who rang?", "Late at night Ann Lee rang the bell twice.", "Ann Lee", skip=18),
        window("an answer that an earlier window holds", "Who rang?", "Late at night Ann Lee rang the bell twice.", "Ann", skip=22),
    ]


@exercise(
    "07.3",
    "From characters to tokens",
    "medium",
    cases=windows,
    parts=("first", "last"),
    hints=[
        "Collect the positions of all tokens that belong to the answer. The first and the last of them are the result.",
        "Two conditions. The token is of the passage: sequence_ids[i] == 1. And its characters a to b - 1 share at least one with start to end - 1: it begins before the answer's end, and it ends after the answer's start.",
        "inside = [i for i, (a, b) in enumerate(offsets) if sequence_ids[i] == 1 and a < end and b > start]. If inside is empty, return 0, 0. Otherwise return inside[0], inside[-1].",
    ],
    why="Offsets count from 0 in each of the two texts, so only sequence_ids keeps the answer out of the question; and an answer that is nowhere gets a place too, [CLS].",
)
def answer_positions(offsets, sequence_ids, start, end):
    inside = []  # positions of the tokens that cover a part of the answer
    for i, (a, b) in enumerate(offsets):  # the token covers the characters a to b - 1
        if sequence_ids[i] == 1 and a < end and b > start:
            inside.append(i)
    return (inside[0], inside[-1]) if inside else (0, 0)  # nowhere: [CLS]


@answer_positions.mistake("Tokens of the question slip in. Their offsets count from 0 as well, in another text: take only tokens with sequence_ids[i] == 1.")
def question_counted(offsets, sequence_ids, start, end):
    inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
    return (inside[0], inside[-1]) if inside else (0, 0)


@answer_positions.mistake("A token that only touches the answer is counted. The end is exclusive on both sides, so a token that begins at `end`, or ends at `start`, shares no character: use < and >.")
def touching_counted(offsets, sequence_ids, start, end):
    inside = [i for i, (a, b) in enumerate(offsets) if sequence_ids[i] == 1 and a <= end and b >= start]
    return (inside[0], inside[-1]) if inside else (0, 0)


@answer_positions.mistake("You return the position after the last token. Here both numbers are tokens of the answer: the labels of BertForQuestionAnswering are the first and the last one.")
def one_behind_the_last(offsets, sequence_ids, start, end):
    first, last = answer_positions.solution(offsets, sequence_ids, start, end)
    return (first, last + 1) if last else (0, 0)


@answer_positions.mistake("You take only tokens that lie wholly inside the answer. A token that covers one of its characters belongs to it too, or the answer is lost.")
def whole_tokens_only(offsets, sequence_ids, start, end):
    inside = [i for i, (a, b) in enumerate(offsets) if sequence_ids[i] == 1 and a >= start and b <= end]
    return (inside[0], inside[-1]) if inside else (0, 0)


@answer_positions.mistake("A token that begins before the answer and ends after it covers it too. Do not compare the ends one by one: ask whether the two share a character, a < end and b > start.")
def overhang_lost(offsets, sequence_ids, start, end):
    spans = enumerate(offsets)
    inside = [i for i, (a, b) in spans if sequence_ids[i] == 1 and (a == start or b == end or (a > start and b < end))]
    return (inside[0], inside[-1]) if inside else (0, 0)


@answer_positions.mistake("The window holds only a part of the answer, and you return (0, 0). Some recipes do so; here the tokens of that part count.")
def a_part_counts_as_nowhere(offsets, sequence_ids, start, end):
    first, last = answer_positions.solution(offsets, sequence_ids, start, end)
    return (first, last) if first and offsets[first][0] <= start and offsets[last][1] >= end else (0, 0)


@answer_positions.mistake("If no token covers the answer, the place is [CLS]: return (0, 0). A label of -1 is no position that the model can point at.")
def minus_one_for_nowhere(offsets, sequence_ids, start, end):
    inside = [i for i, (a, b) in enumerate(offsets) if sequence_ids[i] == 1 and a < end and b > start]
    return (inside[0], inside[-1]) if inside else (-1, -1)


# ---------------------------------------------------------------- 07.4


def logits_of_windows() -> list[Case]:
    """(start, end, passage, longest, threshold): [CLS], a question of two tokens, [SEP], a passage of five tokens, [SEP]."""
    passage = torch.tensor([False] * 4 + [True] * 5 + [False])
    start = torch.tensor([0.0, -1, -2, -3, 1, 4, 2, 0, -1, -4])
    end = torch.tensor([0.5, -2, -1, -3, 0, 1, 5, 2, 1.5, -4])
    late_start = torch.tensor([0.0, 0, -2, -1, 1, 0, 2, 6, 1, -2])
    early_end = torch.tensor([0.0, -1, -1, -2, 1, 7, 3, 1.5, 1, -1])
    in_question = torch.tensor([0.0, 9, 1, -1, 2, 3, 1, 0, 0, -2]), torch.tensor([0.0, 2, 8, -1, 0, 1, 4, 0, 0, 7])
    far_start, far_end = torch.tensor([0.0, -1, -1, -2, 6, 1, 0, 1.5, 1, -1]), torch.tensor([0.0, -1, -1, -2, 1, 2, 0, 1, 6, -1])
    below_zero = torch.tensor([-9.0, -8, -7, -9, -6, -2, -5, -4, -3, -9]), torch.tensor([-9.0, -8, -7, -9, -6, -4, -1.5, -5, -3, -9])
    silent = torch.tensor([4.0, -1, -2, -3, 1, 3, 2, 0, -1, -4]), torch.tensor([4.5, -2, -1, -3, 0, 1, 3, 2, 1.5, -4])
    return [
        Case("a clear answer", start, end, passage, 15, 0.0),
        Case("the highest pair lies in the question", *in_question, passage, 15, 0.0),
        Case("[CLS] is ahead by 2.5, threshold 0", *silent, passage, 15, 0.0),
        Case("[CLS] is ahead by 2.5, and that is the threshold", *silent, passage, 15, 2.5),
        Case("[CLS] has the higher start, the span the higher sum", silent[0], silent[1].index_fill(0, torch.tensor([0]), -1.0).index_fill(0, torch.tensor([6]), 5.0), passage, 15, 0.0),
        Case("two tokens at most", start, end, passage, 2, 0.0),
        Case("[CLS] is ahead by 2.5, threshold 3", *silent, passage, 15, 3.0),
        Case("the span is ahead by 8.5, threshold -10", start, end, passage, 15, -10.0),
        Case("the highest end lies before the highest start", late_start, early_end, passage, 15, 0.0),
        Case("the highest pair is five tokens long, longest 3", far_start, far_end, passage, 3, 0.0),
        Case("one token at most", start, end, passage, 1, 0.0),
        Case("all logits are below zero", *below_zero, passage, 15, 0.0),
        Case("a threshold of plus infinity", *silent, passage, 15, float("inf")),
    ]


@exercise(
    "07.4",
    "The best answer, or none",
    "hard",
    cases=logits_of_windows,
    parts=("first", "last"),
    hints=[
        "First find the best valid span, as if there always was an answer. Then let the score of [CLS], start[0] + end[0], compete with the score of that span.",
        "All scores at once: start[:, None] + end[None, :] is (T, T), a row for each first token and a column for each last one. Set what is not valid to minus infinity. Two loops over the first and the last token do it as well.",
        "With T = len(start), n = torch.arange(T) and length = n[None, :] - n[:, None] + 1, the valid ones are passage[:, None] & passage[None, :] & (length >= 1) & (length <= longest).",
        "scores = (start[:, None] + end[None, :]).masked_fill(~valid, float('-inf')). If start[0] + end[0] - scores.max() > threshold, return 0, 0. Otherwise return divmod(scores.argmax().item(), T).",
    ],
    why="A passage always has some best span. Only the comparison with [CLS] allows the model to be silent, and the threshold moves how often it is.",
)
def answer_or_none(start, end, passage, longest, threshold):
    n = torch.arange(len(start))
    length = n[None, :] - n[:, None] + 1  # (T, T): tokens of the span from row to column
    valid = passage[:, None] & passage[None, :] & (length >= 1) & (length <= longest)
    scores = (start[:, None] + end[None, :]).masked_fill(~valid, float("-inf"))  # (T, T)
    if start[0] + end[0] - scores.max() > threshold:  # how far [CLS] is ahead
        return 0, 0
    return divmod(scores.argmax().item(), len(start))  # row and column of the best


def _or_none(first, last, start, end, threshold):
    """The span, or (0, 0) if [CLS] is far enough ahead of it."""
    return (0, 0) if start[0] + end[0] - start[first] - end[last] > threshold else (first, last)


@answer_or_none.mistake("A span of more than `longest` tokens won. Leave out the pairs with last - first + 1 > longest.")
def no_longest(start, end, passage, longest, threshold):
    return answer_or_none.solution(start, end, passage, len(start), threshold)


@answer_or_none.mistake("The end lies before the start, or too far behind it: you choose the best start and the best end each for itself. Score pairs, and only valid ones.")
def each_for_itself(start, end, passage, longest, threshold):
    first, last = (x.masked_fill(~passage, float("-inf")).argmax().item() for x in (start, end))
    return _or_none(first, last, start, end, threshold)


@answer_or_none.mistake("The end lies before the start in a pair that you score. A span goes forward: leave out the pairs with last < first.")
def end_before_start(start, end, passage, longest, threshold):
    n = torch.arange(len(start))
    valid = passage[:, None] & passage[None, :] & (n[None, :] - n[:, None] + 1 <= longest)
    scores = (start[:, None] + end[None, :]).masked_fill(~valid, float("-inf"))
    return _or_none(*divmod(scores.argmax().item(), len(start)), start, end, threshold)


@answer_or_none.mistake("A span of exactly `longest` tokens is allowed, and you leave it out. range(i, i + longest) holds `longest` places.")
def one_token_short(start, end, passage, longest, threshold):
    return answer_or_none.solution(start, end, passage, longest - 1, threshold)


@answer_or_none.mistake("A span of one token more than `longest` won. From first to last there are last - first + 1 tokens.")
def one_token_too_long(start, end, passage, longest, threshold):
    return answer_or_none.solution(start, end, passage, longest + 1, threshold)


@answer_or_none.mistake("[CLS] must be ahead by more than the threshold. If it is ahead by exactly as much, the span is the answer: > and not >=.")
def at_the_threshold_none(start, end, passage, longest, threshold):
    first, last = answer_or_none.solution(start, end, passage, longest, float("inf"))
    return (0, 0) if start[0] + end[0] - start[first] - end[last] >= threshold else (first, last)


@answer_or_none.mistake("You compare the start logits alone. The score of a span, and that of [CLS], is a start logit plus an end logit.")
def starts_alone(start, end, passage, longest, threshold):
    first, last = answer_or_none.solution(start, end, passage, longest, float("inf"))
    return (0, 0) if start[0] - start[first] > threshold else (first, last)


@answer_or_none.mistake("The span may lie in the question, or end on [SEP]. Both of its tokens must be of the passage.")
def anywhere(start, end, passage, longest, threshold):
    return answer_or_none.solution(start, end, torch.arange(len(start)) > 0, longest, threshold)


@answer_or_none.mistake('Look at your comparison with [CLS] again. "No answer" wins if [CLS] is far enough ahead: the score of [CLS] minus the score of the span is greater than the threshold.')
def turned_round(start, end, passage, longest, threshold):
    first, last = answer_or_none.solution(start, end, passage, longest, float("inf"))  # never none
    return (0, 0) if start[first] + end[last] - start[0] - end[0] > threshold else (first, last)


@answer_or_none.mistake("Pairs that are not valid have score 0 in your table, and 0 is more than any sum of logits below zero. triu, tril and multiplying by a mask all do this: fill with minus infinity.")
def filled_with_zero(start, end, passage, longest, threshold):
    inside = passage[:, None] & passage[None, :]
    scores = ((start[:, None] + end[None, :]) * inside).triu().tril(longest - 1)
    return _or_none(*divmod(scores.argmax().item(), len(start)), start, end, threshold)
