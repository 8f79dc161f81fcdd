"""Exercises of notebooks/04_next_sentence_prediction.ipynb."""

import random

import torch

from .core import Case, exercise


def answers_of_the_head() -> list[Case]:
    """(logits,) of shape (B, 2)."""
    return [
        Case("three pairs", torch.tensor([[2.0, -1.0], [-0.5, 1.5], [0.3, 0.1]])),
        Case("a batch of one", torch.tensor([[1.2, 2.0]])),
        Case("two equal logits", torch.tensor([[3.0, 3.0], [-4.0, 1.0]])),
    ]


@exercise(
    "04.1",
    "The probability that B follows A",
    "easy",
    cases=answers_of_the_head,
    hints=[
        "Each row of the logits belongs to one pair. First turn the two numbers of a row into two probabilities, then take one of them.",
        "logits is (B, 2). Softmax must run over the last axis, softmax(-1), so that each row sums to 1.",
        "Index 0 means that B follows A: return logits.softmax(-1)[:, 0], of shape (B,).",
    ],
    why="In BERT's code 0 means that B follows A and 1 that B is random. Many people expect the opposite, and no error tells them.",
)
def is_next_probability(logits):
    p = logits.softmax(-1)  # (B, 2): each row sums to 1
    return p[:, 0]  # (B,): index 0 means that B follows A


@is_next_probability.mistake("That is the probability that B is random. In BERT's code index 0 means that B follows A, and index 1 that B is random: take [:, 0].")
def labels_reversed(logits):
    return logits.softmax(-1)[:, 1]


@is_next_probability.mistake("Your softmax runs over the pairs of the batch, so the answer for one pair depends on the others. With a batch of one it is always 1. Use softmax(-1).")
def softmax_over_the_batch(logits):
    return logits.softmax(0)[:, 0]


@is_next_probability.mistake("Those are raw logits. They are no probabilities: some are below 0 or above 1. Apply softmax(-1) before you take index 0.")
def raw_logits(logits):
    return logits[:, 0]


@is_next_probability.mistake("A sigmoid looks at one logit alone and forgets the other. Only the two together say how probable it is: use softmax(-1), then index 0.")
def sigmoid_of_one(logits):
    return logits.sigmoid()[:, 0]


@is_next_probability.mistake("That is the label which the head chooses. Wanted is the probability of label 0, which also says how sure the head is: softmax(-1), then index 0.")
def the_label(logits):
    return logits.argmax(-1)


BAKERY = ["The baker rose at three.", "He lit the oven.", "By six the bread was ready.", "The first customer bought two loaves."]
COMET = ["The comet returns every 76 years.", "It was last seen in 1986."]
HARBOUR = ["The harbour froze that winter."]
TRAIN = [f"The train stopped at station {n}." for n in range(1, 10)]


def documents_and_draws() -> list[Case]:
    """(documents, draws): no sentence occurs twice."""
    return [
        Case("two documents", [BAKERY, COMET], [[0.2, 0.5, 0.4, 0.1], [0.9, 0.3]]),
        Case("one document has a single sentence", [HARBOUR, COMET, BAKERY], [[0.1], [0.3, 0.6], [0.8, 0.55, 0.45, 0.9]]),
        Case("a long document beside a single sentence", [TRAIN, HARBOUR], [[0.7, 0.8, 0.6, 0.9, 0.75, 0.51, 0.99, 0.2, 0.5], [0.1]]),
    ]


REVERSED = "The label is the wrong way round. In BERT's code 0 means that B follows A, and 1 that B is random. Nothing would warn you in training."
OWN = "A random B must come from another document. From the same one it has A's topic and may even follow. Collect the sentences of all other documents, and choose among those."
ACROSS = "This A is the last sentence of its document, and nothing follows it there. Make no pair across the end of a document: loop over each document alone, up to its last sentence but one."
ALWAYS_REAL = "Where the draw is 0.5 or more, B must be random. The draw of this sentence is draws[d][s]."


def judge_pairs(result, documents, draws) -> str:
    """What is wrong with training pairs (a, b, label) made from documents; any sentence of another document may be a random B."""
    wanted = [(d, s) for d, document in enumerate(documents) for s in range(len(document) - 1)]
    for place, (a, b, label) in enumerate(result):
        pair = f"pair {place}, A = {a!r}: "
        if place >= len(wanted) or a != documents[wanted[place][0]][wanted[place][1]]:
            if a in [document[-1] for document in documents]:
                return pair + ACROSS
            if place >= len(wanted):
                return f"there are {len(result)} pairs, but only {len(wanted)} sentences have a next one. Make one pair for each of them."
            return pair + f"here A must be {documents[wanted[place][0]][wanted[place][1]]!r}. Every sentence that has a next one is A once, in the order of the text."
        d, s = wanted[place]
        real, following = draws[d][s] < 0.5, documents[d][s + 1]
        if real and b != following:
            return pair + f"the draw {draws[d][s]} is below 0.5, so B must be the next sentence, {following!r}. You took {b!r}."
        if not real and b == following:
            return pair + f"B is the real next sentence, but the draw is {draws[d][s]}. {ALWAYS_REAL}"
        if not real and b in documents[d]:
            return pair + f"the draw is {draws[d][s]}, and you took {b!r}. {OWN}"
        if not real and not any(b in document for document in documents):
            return pair + f"B is no sentence of the documents: {b!r}."
        if label != (0 if real else 1):
            return pair + f"the label is {label!r}, but B {'follows A' if real else 'is random'}. {REVERSED}"
    return "" if len(result) == len(wanted) else f"there are {len(result)} pairs, but {len(wanted)} sentences have a next one. Make one pair for each of them."


@exercise(
    "04.2",
    "Build the training pairs",
    "medium",
    cases=documents_and_draws,
    judge=judge_pairs,
    hints=[
        "Two loops: over the documents d, and inside over the sentences s of this document that have a next one. Each round adds one triple (A, B, label).",
        "for s in range(len(documents[d]) - 1) leaves out the last sentence. A is documents[d][s], and the real B is documents[d][s + 1].",
        "The candidates for a random B, for document d: others = [x for e, document in enumerate(documents) if e != d for x in document]. Then random.choice(others).",
        "In the inner loop: if draws[d][s] < 0.5, append (A, documents[d][s + 1], 0), else append (A, random.choice(others), 1).",
    ],
    why="How the wrong pairs are made decides what can be learnt. A B from another document can be rejected by its topic, and so topic is what the head learns first.",
)
def make_pairs(documents, draws):
    pairs = []
    for d, sentences in enumerate(documents):
        others = [x for e, document in enumerate(documents) if e != d for x in document]  # all documents but this one
        for s in range(len(sentences) - 1):  # the last sentence has no next one
            if draws[d][s] < 0.5:
                pairs.append((sentences[s], sentences[s + 1], 0))  # 0: B follows A
            else:
                pairs.append((sentences[s], random.choice(others), 1))  # 1: B is random
    return pairs


def _with_labels(documents, draws, real, other):
    """The pairs of `make_pairs` with other labels."""
    return [(a, b, real if label == 0 else other) for a, b, label in make_pairs.solution(documents, draws)]


@make_pairs.mistake(REVERSED)
def one_for_yes(documents, draws):
    return _with_labels(documents, draws, 1, 0)


@make_pairs.mistake(OWN)
def random_from_the_same_document(documents, draws):
    pairs = []
    for sentences, of_document in zip(documents, draws):
        for s in range(len(sentences) - 1):
            away = sentences[s - 1] if s else sentences[-1]
            pairs.append((sentences[s], sentences[s + 1], 0) if of_document[s] < 0.5 else (sentences[s], away, 1))
    return pairs


@make_pairs.mistake(ACROSS)
def across_the_end_of_a_document(documents, draws):
    text, numbers = sum(documents, []), sum(draws, [])
    far = {x: documents[d - 1][0] for d, document in enumerate(documents) for x in document}
    return [(a, b, 0) if number < 0.5 else (a, far[a], 1) for a, b, number in zip(text, text[1:], numbers)]


@make_pairs.mistake(ALWAYS_REAL)
def never_random(documents, draws):
    return [(a, b, 0) for document in documents for a, b in zip(document, document[1:])]


def pairs_of_pieces() -> list[Case]:
    """(ids_a, ids_b, cls_id, sep_id, max_length)"""
    long, short = list(range(11, 21)), [31, 32, 33]
    return [
        Case("A is longer and must be cut", long, short, 101, 102, 12),
        Case("B is longer and must be cut", short, long, 101, 102, 11),
        Case("everything fits exactly", [11, 12, 13, 14], [31, 32, 33], 101, 102, 10),
        Case("a short pair with much room", [11], [31, 32], 101, 102, 512),
        Case("both are cut, A first", [11, 12, 13, 14, 15, 16], [31, 32, 33, 34], 101, 102, 9),
        Case("equally long, an odd number of places, other special ids", [11, 12, 13, 14], [31, 32, 33, 34], 1, 2, 8),
    ]


@exercise(
    "04.3",
    "[CLS] A [SEP] B [SEP], at most so long",
    "medium",
    cases=pairs_of_pieces,
    parts=("input_ids", "token_type_ids"),
    hints=[
        "Do it in two parts: first cut A and B until everything fits, then put the special tokens in and write the segment ids.",
        "Three places are taken by special tokens: it fits when len(ids_a) + len(ids_b) + 3 <= max_length. While it does not fit, take one from the end of the longer list.",
        "The cut: while len(ids_a) + len(ids_b) + 3 > max_length: if len(ids_a) > len(ids_b): ids_a = ids_a[:-1], else: ids_b = ids_b[:-1].",
        "Then input_ids = [cls_id, *ids_a, sep_id, *ids_b, sep_id]. Segment 0 has len(ids_a) + 2 places, for [CLS] and the first [SEP] belong to A: [0] * (len(ids_a) + 2) + [1] * (len(ids_b) + 1).",
    ],
    why="The first [SEP] belongs to A and the last one to B. To cut the longer text keeps something of both: a pair with an empty B teaches nothing.",
)
def pair_input(ids_a, ids_b, cls_id, sep_id, max_length):
    while len(ids_a) + len(ids_b) + 3 > max_length:  # 3: [CLS] and two [SEP]
        if len(ids_a) > len(ids_b):
            ids_a = ids_a[:-1]  # one token from the end of the longer text
        else:
            ids_b = ids_b[:-1]
    input_ids = [cls_id, *ids_a, sep_id, *ids_b, sep_id]
    segments = [0] * (len(ids_a) + 2) + [1] * (len(ids_b) + 1)  # [CLS] A [SEP] are 0, B [SEP] are 1
    return input_ids, segments


def _joined(ids_a, ids_b, cls_id, sep_id):
    """The right input for two lists that were cut already."""
    return pair_input.solution(ids_a, ids_b, cls_id, sep_id, len(ids_a) + len(ids_b) + 3)


@pair_input.mistake("The result is longer than max_length: you forgot that [CLS] and two [SEP] need places too. Cut until len(ids_a) + len(ids_b) + 3 <= max_length.")
def special_tokens_forgotten(ids_a, ids_b, cls_id, sep_id, max_length):
    return pair_input.solution(ids_a, ids_b, cls_id, sep_id, max_length + 3)


@pair_input.mistake("The result has one token too many. There are three special tokens, [CLS] and two [SEP]: cut until len(ids_a) + len(ids_b) + 3 <= max_length.")
def two_special_tokens_counted(ids_a, ids_b, cls_id, sep_id, max_length):
    return pair_input.solution(ids_a, ids_b, cls_id, sep_id, max_length + 1)


@pair_input.mistake("You cut B alone. If A is long, nothing is left of B. Take one token at a time from whichever list is longer at that moment.")
def only_b_is_cut(ids_a, ids_b, cls_id, sep_id, max_length):
    return _joined(ids_a, ids_b[: max(0, max_length - 3 - len(ids_a))], cls_id, sep_id)


@pair_input.mistake("Where the two are equally long you cut A. The statement says B then: cut A only if it is longer, > and not >=.")
def cut_a_where_equal(ids_a, ids_b, cls_id, sep_id, max_length):
    while len(ids_a) + len(ids_b) + 3 > max_length:
        if len(ids_a) >= len(ids_b):
            ids_a = ids_a[:-1]
        else:
            ids_b = ids_b[:-1]
    return _joined(ids_a, ids_b, cls_id, sep_id)


@pair_input.mistake("You cut both lists in every round, so the short one loses tokens for nothing. In each round cut one token, from the longer list.")
def both_are_cut_equally(ids_a, ids_b, cls_id, sep_id, max_length):
    while len(ids_a) + len(ids_b) + 3 > max_length:
        ids_a, ids_b = ids_a[:-1], ids_b[:-1]
    return _joined(ids_a, ids_b, cls_id, sep_id)


@pair_input.mistake("The tokens are right, but the first [SEP] has segment 1. It closes A, so it belongs to segment 0, like [CLS]. Only B and the last [SEP] have 1.")
def first_sep_in_segment_1(ids_a, ids_b, cls_id, sep_id, max_length):
    input_ids, segments = pair_input.solution(ids_a, ids_b, cls_id, sep_id, max_length)
    segments[input_ids.index(sep_id)] = 1
    return input_ids, segments


@pair_input.mistake("You cut from the front. The statement asks you to take tokens from the end: ids_a[:-1], not ids_a[1:].")
def cut_from_the_front(ids_a, ids_b, cls_id, sep_id, max_length):
    while len(ids_a) + len(ids_b) + 3 > max_length:
        if len(ids_a) > len(ids_b):
            ids_a = ids_a[1:]
        else:
            ids_b = ids_b[1:]
    return _joined(ids_a, ids_b, cls_id, sep_id)


def judged_pairs() -> list[Case]:
    """(is_next, labels, kinds): kinds of unequal size."""
    kinds = ["next", "far", "far", "swapped", "next", "far", "next", "far", "next", "far"]
    labels = torch.tensor([0, 1, 1, 1, 0, 1, 0, 1, 0, 1])
    p = torch.tensor([0.9, 0.1, 0.2, 0.8, 0.7, 0.3, 0.4, 0.6, 0.95, 0.05])
    return [
        Case("ten pairs, two kinds of negative", p, labels, kinds),
        Case("a head that always says \"follows\"", torch.full((10,), 0.9), labels, kinds),
        Case("one kind of negative", torch.tensor([0.8, 0.3, 0.9, 0.2]), torch.tensor([0, 1, 1, 1]), ["next", "same document", "same document", "same document"]),
        Case("a probability of exactly 0.5", torch.tensor([0.5, 0.2, 0.9, 0.5]), torch.tensor([0, 1, 1, 0]), ["next", "far", "far", "next"]),
        Case("three kinds, the real pairs last", torch.tensor([0.1, 0.7, 0.9, 0.3, 0.6, 0.2]), torch.tensor([1, 1, 1, 1, 0, 0]), ["a", "b", "b", "c", "next", "next"]),
    ]


@exercise(
    "04.4",
    "Balanced accuracy, kind by kind",
    "hard",
    cases=judged_pairs,
    hints=[
        "First ask of each pair alone: is the answer right? Then count within each kind, and only at the end put the kinds together.",
        "says_next = is_next >= 0.5 and really_next = labels == 0 are both (N,). A pair is right where they agree: right = says_next == really_next.",
        "For one kind: rows = torch.tensor([k == kind for k in kinds]) is (N,), and right[rows].float().mean() is the accuracy on this kind. Put it into a dictionary, one entry a kind of set(kinds).",
        "negatives = [x for kind, x in accuracy.items() if kind != \"next\"], then return (accuracy[\"next\"] + sum(negatives) / len(negatives)) / 2.",
    ],
    why="One accuracy over all pairs rewards a head for the kind that is most frequent. Balanced, every head that always gives the same answer gets 0.5, whatever the mix of pairs.",
)
def balanced_accuracy(is_next, labels, kinds):
    right = (is_next >= 0.5) == (labels == 0)  # (N,): label 0 means that B follows A
    accuracy = {}
    for kind in set(kinds):
        rows = torch.tensor([k == kind for k in kinds])  # (N,): the pairs of this kind
        accuracy[kind] = right[rows].float().mean()
    negatives = [x for kind, x in accuracy.items() if kind != "next"]
    return (accuracy["next"] + sum(negatives) / len(negatives)) / 2  # real and wrong pairs count half each


def _by_kind(right, kinds):
    """kind -> accuracy, the real pairs first."""
    return {kind: right[torch.tensor([k == kind for k in kinds])].float().mean() for kind in sorted(set(kinds), key=lambda k: k != "next")}


@balanced_accuracy.mistake("Your number is one minus the right one: you took label 1 for \"follows\". In BERT's code label 0 means that B follows A, so compare is_next >= 0.5 with labels == 0.")
def labels_turned_round(is_next, labels, kinds):
    return 1 - balanced_accuracy.solution(is_next, labels, kinds)


@balanced_accuracy.mistake("A probability of exactly 0.5 counts as \"follows\": is_next >= 0.5.")
def strictly_above_a_half(is_next, labels, kinds):
    return balanced_accuracy.solution(torch.where(is_next == 0.5, 0.4, is_next), labels, kinds)


@balanced_accuracy.mistake("That is the plain accuracy over all pairs. A head that always gives the most frequent answer looks good there. Take the accuracy of each kind first.")
def plain_accuracy(is_next, labels, kinds):
    return ((is_next >= 0.5) == (labels == 0)).float().mean()


@balanced_accuracy.mistake("The two halves are right, but you put all negatives into one heap, where the most frequent kind decides. Take the accuracy of each kind of negative, then the mean of those.")
def negatives_in_one_heap(is_next, labels, kinds):
    right = (is_next >= 0.5) == (labels == 0)
    return (right[labels == 0].float().mean() + right[labels == 1].float().mean()) / 2


@balanced_accuracy.mistake("You took the mean over all kinds, with \"next\" as one of them. The real pairs are one half: take the mean of the negative kinds first, then the mean of the two halves.")
def next_is_one_kind_of_many(is_next, labels, kinds):
    accuracy = _by_kind((is_next >= 0.5) == (labels == 0), kinds)
    return sum(accuracy.values()) / len(accuracy)
