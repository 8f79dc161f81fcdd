"""What is in data/: written for this course; fields, making and limits are in data/README.md."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from .checkpoints import data_folder
from .inputs import one_of, sequence, short, whole

T = TypeVar("T")
NEGATIVE_KINDS = ("another source", "same source", "same document", "swapped")


@dataclass(frozen=True)
class SimilarityPair:
    """Two sentences and the authors' grade, 0 (unrelated) to 5 (same meaning); kind says how the pair was made."""

    sentence_a: str
    sentence_b: str
    grade: float
    kind: str


@dataclass(frozen=True)
class SenseExample:
    """A sentence with a word of several senses, and the sense that it has there."""

    word: str
    sense: str
    sentence: str


@dataclass(frozen=True)
class Document:
    """A short text, its sentences in order; source is its genre."""

    id: str
    source: str
    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class SentimentExample:
    """A sentence that praises (label 1) or complains (label 0); kind is "plain", "implied", "negation", "irony" or "mixed"."""

    text: str
    label: int
    domain: str
    kind: str


@dataclass(frozen=True)
class NliTriple:
    """A premise and three hypotheses: one that follows, one that may or may not be true, one that cannot be."""

    anchor: str
    entailment: str
    neutral: str
    contradiction: str


@dataclass(frozen=True)
class NerSentence:
    """Words and their BIO tags, of the same number: O, or B- and I- with PER, ORG, LOC, MISC."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class QaExample:
    """A question on a passage; answer stands at context[start:start + len(answer)], or is "" with start -1."""

    id: str
    context: str
    question: str
    answer: str
    start: int


@dataclass(frozen=True)
class Passage:
    """A short text to be found by search."""

    id: str
    topic: str
    text: str


@dataclass(frozen=True)
class Query:
    """A question to a search engine, and the ids of the passages that answer it."""

    text: str
    relevant: tuple[str, ...]


@dataclass(frozen=True)
class Faq:
    """A frequent question, its answer, and other wordings of the question."""

    question: str
    answer: str
    wordings: tuple[str, ...]


@dataclass(frozen=True)
class NextPair:
    """A pair for NSP; label 0 = sentence_b follows, 1 = it does not; kind is "next" or one of NEGATIVE_KINDS."""

    sentence_a: str
    sentence_b: str
    label: int
    kind: str


@dataclass(frozen=True)
class GalleryPair:
    """A pair that separates topic from coherence: what is true about it, and what it teaches.

    kind   "next", one of NEGATIVE_KINDS, or "same words": B says A again
    """

    title: str
    kind: str
    sentence_a: str
    sentence_b: str
    truth: str
    lesson: str

    @property
    def label(self) -> int:
        """0 = sentence_b follows, 1 = it does not."""
        return int(self.kind != "next")


def split_of(text: str, test: float = 0.65) -> str:
    """"test" or "train", decided by the SHA-1 of the text alone, so before any model is run.

    >>> split_of("A cat sat.") in ("train", "test")
    True
    """
    return "test" if int(hashlib.sha1(text.encode()).hexdigest()[:8], 16) < test * 2**32 else "train"


def similarity_pairs(split: str | None = None) -> list[SimilarityPair]:
    """The graded sentence pairs; split is "train", "test" or None for all.

    >>> pair = similarity_pairs("test")[0]
    >>> 0 <= pair.grade <= 5
    True
    """
    return _part(_similarity(), lambda p: f"{p.sentence_a}\n{p.sentence_b}", split, test=0.65)


@cache
def _similarity() -> tuple[SimilarityPair, ...]:
    with open(data_folder() / "similarity.csv", encoding="utf-8", newline="") as file:
        return tuple(SimilarityPair(r["sentence_a"], r["sentence_b"], float(r["grade"]), r["kind"]) for r in csv.DictReader(file))


def sentiment(split: str | None = None) -> list[SentimentExample]:
    """1,000 sentences that praise or complain; split is "train", "test" (40 %) or None for all.

    >>> {example.label for example in sentiment()}
    {0, 1}
    """
    with open(data_folder() / "sentiment.csv", encoding="utf-8", newline="") as file:
        rows = [SentimentExample(r["text"], int(r["label"] == "positive"), r["domain"], r["kind"]) for r in csv.DictReader(file)]
    return _part(rows, lambda e: e.text, split, test=0.4)


def nli(split: str | None = None) -> list[NliTriple]:
    """600 premises with an entailed, a neutral and a contradicting hypothesis; split as in `sentiment` (30 % test)."""
    return _part([NliTriple(**row) for row in _rows("nli.jsonl")], lambda t: t.anchor, split, test=0.3)


def ner(split: str | None = None) -> list[NerSentence]:
    """400 sentences with names tagged; split as in `sentiment` (40 % test).

    >>> sentence = ner("train")[0]
    >>> len(sentence.words) == len(sentence.tags)
    True
    """
    rows = [NerSentence(tuple(r["words"]), tuple(r["tags"])) for r in _rows("ner.jsonl")]
    return _part(rows, lambda s: " ".join(s.words), split, test=0.4)


def question_answering(split: str | None = None) -> list[QaExample]:
    """360 questions on 120 passages, 60 of them without an answer; split by passage (40 % test)."""
    with open(data_folder() / "qa.json", encoding="utf-8") as file:
        paragraphs = [paragraph for article in json.load(file)["data"] for paragraph in article["paragraphs"]]
    return [
        QaExample(qa["id"], p["context"], qa["question"], *((qa["answers"][0]["text"], qa["answers"][0]["answer_start"]) if qa["answers"] else ("", -1)))
        for p in _part(paragraphs, lambda p: p["context"], split, test=0.4)
        for qa in p["qas"]
    ]


def passages() -> list[Passage]:
    """300 short passages to search in."""
    return [Passage(**row) for row in _rows("passages.jsonl")]


def queries() -> list[Query]:
    """100 questions to the passages, each with the ids of those that answer it."""
    return [Query(r["text"], tuple(r["relevant"])) for r in _rows("queries.jsonl")]


def faq() -> list[Faq]:
    """Frequent questions with their answers and other wordings, for the capstone of notebook 10."""
    return [Faq(r["question"], r["answer"], tuple(r["wordings"])) for r in _rows("faq.jsonl")]


def senses(word: str | None = None) -> list[SenseExample]:
    """Sentences with words of several senses, all or those of one word.

    >>> sorted({example.sense for example in senses("bank")})
    ['money', 'river']
    """
    examples = [SenseExample(**row) for row in _rows("senses.jsonl")]
    words = sorted({e.word for e in examples})
    if word is not None and word not in words:
        raise ValueError(f"There are no sentences for {short(word)}: choose from {', '.join(words)}.")
    return [e for e in examples if word in (None, e.word)]


def documents() -> list[Document]:
    """The short documents for next-sentence prediction."""
    return [Document(r["id"], r["source"], r["title"], tuple(r["sentences"])) for r in _rows("documents.jsonl")]


def next_sentence_pairs(kinds: tuple[str, ...] = ("next", *NEGATIVE_KINDS), per_kind: int = 100, seed: int = 0) -> list[NextPair]:
    """Pairs from the documents, per_kind of each kind, no two from the same place.

    next             the sentence that really follows
    another source   a sentence from a document of another genre
    same source      a sentence from another document of the same genre
    same document    a sentence from the same document, at least two places away
    swapped          two neighbours in the wrong order

    >>> [pair.label for pair in next_sentence_pairs(("next", "swapped"), per_kind=1)]
    [0, 1]
    """
    kinds = [one_of(kind, ("next", *NEGATIVE_KINDS), "kind") for kind in sequence(kinds, "kinds", "kinds")]
    whole(per_kind, "per_kind", 0), whole(seed, "seed")
    rng, texts = random.Random(seed), documents()
    places = [(d, i) for d in texts for i in range(len(d.sentences) - 1)]
    if per_kind > len(places):
        raise ValueError(f"There are {len(places)} neighbouring sentences: ask for at most that many of a kind.")

    def partner(document: Document, i: int, kind: str) -> str | None:
        if kind in ("next", "swapped"):
            return document.sentences[i + 1]
        if kind == "same document":
            far = [s for j, s in enumerate(document.sentences) if abs(j - i) > 1]
            return rng.choice(far) if far else None
        others = [d for d in texts if d.id != document.id and (d.source == document.source) == (kind == "same source")]
        return rng.choice(rng.choice(others).sentences)

    pairs = []
    for kind in kinds:
        count = 0
        for document, i in rng.sample(places, len(places)):
            if count == per_kind:
                break
            other = partner(document, i, kind)
            if other is None:
                continue
            a, b = (other, document.sentences[i]) if kind == "swapped" else (document.sentences[i], other)
            pairs.append(NextPair(a, b, int(kind != "next"), kind))
            count += 1
    return pairs


def next_sentence_gallery() -> list[GalleryPair]:
    """Ten pairs for the panel of notebook 04: real neighbours beside pairs that only share topic or words.

    >>> [pair.kind for pair in next_sentence_gallery()[:4]]
    ['next', 'same document', 'swapped', 'another source']
    """
    return [GalleryPair(**row) for row in _rows("next_sentence_gallery.jsonl")]


def random_sentence(seed: int) -> tuple[Document, int]:
    """A sentence of the documents, drawn with a seed: its document, and its place there (0 = first).

    >>> random_sentence(7) == random_sentence(7)
    True
    """
    return random.Random(seed).choice([(document, place) for document in documents() for place in range(len(document.sentences))])


def word_overlap(a: str, b: str) -> float:
    """Shared words over all words (Jaccard, 0 to 1): the baseline that knows no meaning.

    >>> word_overlap("A cat sat.", "The cat slept.")
    0.2
    """
    if wrong := [text for text in (a, b) if not isinstance(text, str)]:
        raise ValueError(f"word_overlap compares two strings, not {short(wrong[0])}.")
    words_a, words_b = (set(re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower())) for text in (a, b))
    return len(words_a & words_b) / max(1, len(words_a | words_b))


def _part(rows: Iterable[T], text_of: Callable[[T], str], split: str | None, test: float) -> list[T]:
    """The rows of one split, decided by `split_of` their text; all of them for None."""
    if split not in (None, "train", "test"):
        raise ValueError(f"split is 'train', 'test' or None, not {short(split)}.")
    return [row for row in rows if split is None or split_of(text_of(row), test) == split]


@cache
def _rows(name: str) -> tuple[dict, ...]:
    with open(data_folder() / name, encoding="utf-8") as file:
        return tuple(json.loads(line) for line in file if line.strip())
