"""Which representation for which task: the course's decision guide as a function.

Taught in notebooks/10_which_representation.ipynb; each answer names the notebook that shows it at work. The rules
say where to start, not what will win: measure the start beside a baseline on your own texts.
Sources: Devlin et al. 2019, arXiv 1810.04805, section 3.2 and figure 4 (which vectors a task reads); Reimers & Gurevych 2019,
arXiv 1908.10084, sections 1 and 3 (sentence vectors, and what reading pairs costs).
"""

from __future__ import annotations

from dataclasses import dataclass

from .inputs import short

DATA = ("none", "a few dozen", "hundreds or more")
LATENCY = ("milliseconds", "seconds")


@dataclass(frozen=True)
class Recommendation:
    """Where to start: the representation, why, and the notebook (its name without .ipynb) that shows it."""

    representation: str
    reason: str
    notebook: str


_FROZEN = "frozen sentence vectors (mean), with a linear classifier"
_CLS = "[CLS] of the text, fine-tuned"
_PAIR = "[CLS] of the pair, fine-tuned: a cross-encoder"
_COSINE = "sentence vectors (mean of a sentence encoder), cosine"
_INDEX = "sentence vectors (mean of a sentence encoder), computed once and indexed"
_RERANK = "indexed sentence vectors first, then a cross-encoder on the best few"
_TOKENS = "every token's own vector, no pooling"
_MASK = "the vector at [MASK], under the MLM head"
_WORD = "the mean of the word's own pieces"
_NEXT = "[CLS] of the pair, through the pooler"
_SIZE = "For speed choose an encoder with fewer layers; the representation stays the same."

# task -> labelled data -> (representation, reason, notebook), or one such answer for each latency
_RULES: dict[str, dict[str, tuple[str, str, str] | dict[str, tuple[str, str, str]]]] = {
    "classify a text": {
        "none": (_COSINE, "With no labels there is nothing to train. Compare each text with a sentence that describes each label, and check a sample by hand.", "08_sentence_bert"),
        "a few dozen": (_FROZEN, "A few dozen labels are few to move millions of weights by. A linear classifier on fixed vectors has far fewer to fit.", "06_classification"),
        "hundreds or more": {
            "milliseconds": (_CLS, "Fine-tuning costs nothing at prediction time: one pass either way. Choose few layers, and measure a bag of words beside it, which needs no encoder.", "06_classification"),
            "seconds": (_CLS, "The head reads [CLS], and fine-tuning teaches [CLS] to carry what the labels ask for. Try the mean beside it.", "06_classification"),
        },
    },
    "compare two texts": {
        "none": (_COSINE, "An encoder trained for similarity works as it is. Raw BERT was never asked to give similar texts similar vectors.", "08_sentence_bert"),
        "a few dozen": (_COSINE, "Use the labelled pairs to choose a threshold and to measure, not to train.", "08_sentence_bert"),
        "hundreds or more": {
            "milliseconds": (_COSINE, "Fine-tune the siamese encoder on your pairs. Each text keeps its own vector, which you can store and compare again.", "08_sentence_bert"),
            "seconds": (_PAIR, "It reads both texts at once, so each word of one can attend to the other. It needs a pass for every pair.", "09_semantic_search"),
        },
    },
    "search many texts": {
        "none": {
            "milliseconds": (_INDEX, "Every text is encoded once, before anybody asks. A question costs one pass and one comparison of vectors.", "09_semantic_search"),
            "seconds": (_RERANK, "The vectors find candidates among all texts. A cross-encoder that others have trained can then read each candidate with the question.", "09_semantic_search"),
        },
        "a few dozen": (_INDEX, "Use the labelled questions to measure and to choose a threshold. They are too few to train on.", "10_which_representation"),
        "hundreds or more": {
            "milliseconds": (_INDEX, "Fine-tune the encoder on pairs of question and answer (multiple negatives ranking), then index as before.", "08_sentence_bert"),
            "seconds": (_RERANK, "Fine-tune both: the encoder so that the right text is among the candidates, the cross-encoder so that it comes first.", "09_semantic_search"),
        },
    },
    "group texts": {
        "none": (_INDEX, "Clustering compares every text with many others, so each needs a vector of its own, made for comparison.", "09_semantic_search"),
        "a few dozen": (_INDEX, "Cluster as without labels, and use the labels to choose the number of groups and to judge them.", "09_semantic_search"),
        "hundreds or more": (_CLS, "If you know the groups and have examples of each, this is classification.", "06_classification"),
    },
    "tag words": {
        "none": (_TOKENS, "Each word needs an answer of its own. With no labels take a tagger that others have trained.", "07_token_tasks"),
        "a few dozen": (_TOKENS, "Each word needs an answer of its own. Expect little from a few dozen sentences: label more, and measure by entity.", "07_token_tasks"),
        "hundreds or more": (_TOKENS, "Each word needs an answer of its own, so pooling would destroy what the head must read. Fine-tune the whole encoder.", "07_token_tasks"),
    },
    "find an answer in a text": {
        "none": (_TOKENS, "The answer is a start and an end, so every position needs a score. Take a model that others have trained on questions.", "07_token_tasks"),
        "a few dozen": (_TOKENS, "The answer is a start and an end, so every position needs a score. Start from a model trained on questions; use yours to measure.", "07_token_tasks"),
        "hundreds or more": (_TOKENS, "The answer is a start and an end, so every position needs a score. Fine-tune, and keep questions without an answer in the training set.", "07_token_tasks"),
    },
    "guess a hidden word": {
        "none": (_MASK, "The model was pretrained for exactly this; no labels are needed.", "03_masked_language_model"),
        "a few dozen": (_MASK, "The model was pretrained for exactly this. Use the labels to measure.", "03_masked_language_model"),
        "hundreds or more": (_MASK, "The model was pretrained for exactly this. More plain text of your field, with words hidden, is worth more than labels.", "05_pretraining"),
    },
    "tell senses of a word apart": {
        "none": (_WORD, "The sense is a property of one word in its sentence. Compare or cluster the vectors of that word.", "03_masked_language_model"),
        "a few dozen": (_WORD, "The sense is a property of one word in its sentence. Give it the sense of the nearest labelled example.", "03_masked_language_model"),
        "hundreds or more": (_WORD, "The sense is a property of one word in its sentence. A linear classifier on that word's vector is enough to begin with.", "03_masked_language_model"),
    },
    "does B follow A?": {
        "none": (_NEXT, "Take a checkpoint that brings an NSP head, and remember that it may go by topic more than by order.", "04_next_sentence_prediction"),
        "a few dozen": (_NEXT, "Take a checkpoint with an NSP head. Use your pairs to measure it, each kind of wrong pair by itself.", "04_next_sentence_prediction"),
        "hundreds or more": (_NEXT, "Fine-tune on your own pairs. Add wrong pairs from the same document, or the head can answer by topic alone.", "04_next_sentence_prediction"),
    },
}
TASKS = tuple(_RULES)


def recommend(task: str, data: str = "none", latency: str = "milliseconds") -> Recommendation:
    """Where to start for a task.

    task     one of TASKS
    data     how many labelled examples there are: one of DATA
    latency  how long one answer may take: one of LATENCY
    Raises ValueError for anything else, with the choices.

    >>> recommend("tag words", data="hundreds or more").representation
    "every token's own vector, no pooling"
    >>> recommend("search many texts", latency="seconds").notebook
    '09_semantic_search'
    """
    for name, value, choices in ("task", task, TASKS), ("data", data, DATA), ("latency", latency, LATENCY):
        if value not in choices:
            raise ValueError(f"{name} is {short(value)}, but the guide knows {', '.join(map(repr, choices))}.")
    rule = _RULES[task][data]
    if isinstance(rule, dict):
        return Recommendation(*rule[latency])
    found = Recommendation(*rule)
    if latency == "milliseconds" and found.representation not in (_COSINE, _INDEX):
        return Recommendation(found.representation, f"{found.reason} {_SIZE}", found.notebook)
    return found


def alternatives(task: str, data: str = "none", latency: str = "milliseconds") -> list[tuple[str, str, Recommendation]]:
    """What the guide would say if the data or the latency were different: (which choice, its value, Recommendation).

    >>> [(value, found.notebook) for _, value, found in alternatives("compare two texts", "hundreds or more")][-1]
    ('seconds', '09_semantic_search')
    """
    others = [("labelled data", value, recommend(task, value, latency)) for value in DATA if value != data]
    return others + [("latency", value, recommend(task, data, value)) for value in LATENCY if value != latency]


def guide_table() -> list[tuple[str, str, str, Recommendation]]:
    """Every entry as (task, data, latency, Recommendation); latency is "either" where it does not change the representation.

    >>> task, data, latency, recommendation = guide_table()[0]
    >>> task, data, latency
    ('classify a text', 'none', 'either')
    """
    rows = []
    for task in TASKS:
        for data in DATA:
            fast, slow = (recommend(task, data, latency) for latency in LATENCY)
            if fast.representation == slow.representation:
                rows.append((task, data, "either", slow))
            else:
                rows += [(task, data, LATENCY[0], fast), (task, data, LATENCY[1], slow)]
    return rows
