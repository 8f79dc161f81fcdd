"""Semantic search: which text answers the query?

Taught in notebooks/09_semantic_search.ipynb.
A bi-encoder turns every text into one vector, once (Reimers & Gurevych 2019, arXiv 1908.10084). A cross-encoder
reads query and text together, a pair at a time (Nogueira & Cho 2019, arXiv 1901.04085). BM25 counts words
(Robertson & Zaragoza 2009, The Probabilistic Relevance Framework: BM25 and Beyond).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .checkpoints import resolve
from .datasets import Passage, Query
from .inputs import number, numbers, sequence, short, vectors as check_vectors, whole
from .intervals import bootstrap
from .sbert import sentence_vectors
from .tokens import check_text, check_texts


@dataclass(frozen=True)
class Hit:
    """A text that was found: its place in the list of texts, its cosine with the query (-1 to 1), the text."""

    index: int
    score: float
    text: str


@dataclass(frozen=True)
class LabelledPair:
    """A query, a passage, and 1.0 if the passage answers the query, else 0.0."""

    query: str
    passage: str
    label: float


@dataclass(frozen=True)
class SearchResult:
    """Where each query's first right text stands: 1 = on top, infinity = not among the candidates.

    >>> result = SearchResult((1.0, 4.0))
    >>> result.recall(1), result.recall(5), result.mrr
    (0.5, 1.0, 0.625)
    """

    ranks: tuple[float, ...]

    def __post_init__(self):
        if not len(ranks := numbers(self.ranks, "ranks", infinite=True)) or ranks.min() < 1:
            raise ValueError("ranks must hold a rank for each of at least one query: 1 or more, or infinity.")

    def hits(self, k: int) -> np.ndarray:
        """(Q,), 1.0 for a query with a right text among the first k."""
        return (np.array(self.ranks) <= whole(k, "k", 1)).astype(float)

    def recall(self, k: int) -> float:
        """The share of queries with a right text among the first k (also called hit rate or success at k)."""
        return float(self.hits(k).mean())

    @property
    def reciprocal_ranks(self) -> np.ndarray:
        """(Q,), 1 / rank: 1.0 on top, 0.5 in second place, 0 where nothing right was found."""
        return 1 / np.array(self.ranks)

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank, 0 to 1."""
        return float(self.reciprocal_ranks.mean())

    def interval(self, k: int | None = None) -> tuple[float, float, float]:
        """(value, low, high) of recall at k, or of the MRR without k, with the 95 % interval of `bootstrap`."""
        values = self.reciprocal_ranks if k is None else self.hits(k)
        return float(values.mean()), *bootstrap(values)

    def minus(self, other: SearchResult) -> tuple[float, float, float]:
        """(difference, low, high) of the MRRs of two searches with the same queries, compared query by query."""
        if len(self.ranks) != len(other.ranks):
            raise ValueError(f"Two searches are compared over the same queries, not over {len(self.ranks)} and {len(other.ranks)}.")
        difference = self.reciprocal_ranks - other.reciprocal_ranks
        return float(difference.mean()), *bootstrap(difference)


def bm25(queries: Sequence[str], texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> np.ndarray:
    """Score every text for every query by the words that they share: (Q, N), 0 = no word in common.

    A shared word counts the more, the rarer it is; a repeated word counts less each time (k1); a word in a long
    text counts less (b). Source: Robertson & Zaragoza 2009, section 3; the rarity as in Lucene, never negative.

    >>> bm25(["red fox"], ["A red fox slept.", "A red bus.", "Rain."]).round(2).tolist()
    [[1.2, 0.45, 0.0]]
    """
    number(k1, "k1", 0, 1e6), number(b, "b", 0, 1)
    queries, texts = check_texts(queries), check_texts(texts)
    counts = [Counter(_words(text)) for text in texts]
    lengths = np.array([sum(c.values()) for c in counts])
    spread = k1 * (1 - b + b * lengths / max(1, lengths.mean()))  # (N,)
    scores = np.zeros((len(queries), len(texts)))
    for row, query in enumerate(queries):
        for word in set(_words(query)):
            tf = np.array([c[word] for c in counts])  # (N,): how often the word stands in each text
            df = (tf > 0).sum()
            scores[row] += math.log(1 + (len(texts) - df + 0.5) / (df + 0.5)) * tf * (k1 + 1) / (tf + np.where(tf, spread, 1))
    return scores


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower())


def evaluate_search(scores, relevant: Sequence[Sequence[int]]) -> SearchResult:
    """The rank of each query's best right text; a wrong text with the same score counts as above it.

    scores    (Q, N), higher = better; minus infinity for a text that is no candidate
    relevant  for each query the indices of the texts that answer it
    Raises ValueError where the two do not fit, and for a query without any right text.

    >>> evaluate_search([[0.9, 0.1, 0.5], [0.2, 0.2, 0.9]], [[0], [0, 1]]).ranks
    (1.0, 2.0)
    """
    scores, relevant = numbers(scores, "scores", (1, 2), infinite=True), sequence(relevant, "relevant", "lists of indices")
    if scores.ndim != 2 or len(scores) != len(relevant):
        raise ValueError(f"scores must have a row a query: {len(relevant)} queries, but the shape {scores.shape}.")
    ranks = []
    for place, (row, right) in enumerate(zip(scores, relevant)):
        right = sequence(right, f"relevant[{place}]", "indices of right texts")
        if not right or not all(isinstance(i, (int, np.integer)) and 0 <= i < len(row) for i in right):
            raise ValueError(f"Query {place} needs the indices of its right texts, 0 to {len(row) - 1}, not {short(right)}.")
        best = row[right].max()
        wrong = np.delete(row, right)
        ranks.append(float((wrong >= best).sum() + 1) if np.isfinite(best) else math.inf)
    return SearchResult(tuple(ranks))


def find(query: str, texts: Sequence[str], top_k: int = 5, *, vectors: torch.Tensor | None = None, model: str | None = None) -> list[Hit]:
    """The texts nearest in meaning to the query, best first.

    texts    N texts
    vectors  (N, H), what `bertlab.sbert.sentence_vectors(texts, model=...)` gave: encode once, search often
    model    a checkpoint folder; bl.SBERT if not given
    Raises ValueError for an empty query, no texts, or vectors that do not fit them.

    >>> [hit.text for hit in find("a small cat", ["Shares fell again.", "The kitten slept."], top_k=1)]
    ['The kitten slept.']
    """
    whole(top_k, "top_k", 1)
    folder, texts = model or resolve("SBERT"), check_texts(texts)
    if vectors is None:
        vectors = sentence_vectors(texts, model=folder)
    vectors = check_vectors(vectors, "vectors")
    if len(vectors) != len(texts):
        raise ValueError(f"There are {len(texts)} texts but {len(vectors)} vectors: give one vector a text.")
    wanted = sentence_vectors([check_text(query, "query")], model=folder)  # (1, H)
    cosines = torch.nn.functional.cosine_similarity(wanted, vectors)  # (N,)
    best = cosines.topk(min(top_k, len(texts)))
    return [Hit(i, round(score, 6), texts[i]) for score, i in zip(best.values.tolist(), best.indices.tolist())]


def verdict(low: float, high: float) -> str:
    """What an interval of a difference allows one to say.

    >>> verdict(0.02, 0.10), verdict(-0.03, 0.04), verdict(-0.2, -0.1)
    ('ahead', 'no clear difference', 'behind')
    """
    return "ahead" if low > 0 else "behind" if high < 0 else "no clear difference"


# ---------------------------------------------------------------- the cross-encoder


def training_pairs(queries: Sequence[Query], passages: Sequence[Passage], scores, negatives: int = 3) -> list[LabelledPair]:
    """Each query with its right passages, and with the wrong ones that a first search ranks highest.

    scores  (Q, N), that first search. Such "hard" negatives are what a re-ranker will meet later.

    >>> from bertlab.datasets import passages
    >>> some = passages()[:4]
    >>> [pair.label for pair in training_pairs([Query("eggs", ("p001",))], some, [[0.0, 1.0, 2.0, 3.0]], negatives=2)]
    [1.0, 0.0, 0.0]
    """
    pairs = []
    for query, row in zip(queries, np.asarray(scores, dtype=float), strict=True):
        order = [passages[i] for i in np.argsort(-row, kind="stable")]
        pairs += [LabelledPair(query.text, p.text, 1.0) for p in order if p.id in query.relevant]
        pairs += [LabelledPair(query.text, p.text, 0.0) for p in order if p.id not in query.relevant][:negatives]
    return pairs


def cross_encoder(folder: str | None = None, seed: int = 0):
    """BERT with a new head of one logit on the pooled [CLS]: a transformers model, untrained for the task.

    folder  a checkpoint; bl.BERT if not given. The seed decides the new head's weights.
    """
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_pretrained(folder or resolve("BERT"), num_labels=1, trust_remote_code=False).eval()


def pair_loss(tokenizer, max_length: int = 128) -> Callable[[torch.nn.Module, list[LabelledPair]], torch.Tensor]:
    """The loss for `bertlab.fine_tuning.fit`: binary cross-entropy of the logit of "[CLS] query [SEP] passage [SEP]"."""

    def loss_of(model, pairs):
        batch = tokenizer([p.query for p in pairs], [p.passage for p in pairs], padding=True, truncation="only_second", max_length=max_length, return_tensors="pt")
        logits = model(**batch).logits[:, 0]  # (B,)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([p.label for p in pairs]))

    return loss_of


@torch.inference_mode()
def cross_scores(model, tokenizer, pairs: Sequence[tuple[str, str]], batch_size: int = 32, max_length: int = 128) -> np.ndarray:
    """The logit of each (query, text) pair, (N,), in the order given; inside, pairs of like length share a batch."""
    scores, order = np.zeros(len(pairs)), sorted(range(len(pairs)), key=lambda i: len(pairs[i][1]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer([pairs[i][0] for i in rows], [pairs[i][1] for i in rows], padding=True, truncation="only_second", max_length=max_length, return_tensors="pt")
        scores[rows] = model(**batch).logits[:, 0].numpy()
    return scores


def rerank(scores, queries: Sequence[str], texts: Sequence[str], score_pairs: Callable[[list[tuple[str, str]]], np.ndarray], top_k: int = 20) -> np.ndarray:
    """New scores for the top_k texts of a first search, minus infinity for the others: (Q, N).

    scores       (Q, N), the first search
    score_pairs  [(query, text), ...] -> (number of pairs,), such as `cross_scores` of a model

    >>> rerank([[3.0, 2.0, 1.0]], ["q"], ["a", "bb", "ccc"], lambda pairs: [len(text) for _, text in pairs], top_k=2).tolist()
    [[1.0, 2.0, -inf]]
    """
    first = np.asarray(scores, dtype=float)
    if first.shape != (len(queries), len(texts)):
        raise ValueError(f"scores must have the shape {(len(queries), len(texts))} to fit queries and texts, not {first.shape}.")
    kept = np.argsort(-first, axis=1, kind="stable")[:, :top_k]  # (Q, top_k)
    found = score_pairs([(query, texts[i]) for query, row in zip(queries, kept) for i in row])
    new = np.full(first.shape, -np.inf)
    np.put_along_axis(new, kept, np.asarray(found, dtype=float).reshape(kept.shape), axis=1)
    return new


def neighbour_recall(found, exact) -> float:
    """The share of the true nearest neighbours that an index found: (Q, k) indices against (Q, k) indices.

    >>> neighbour_recall([[1, 2], [5, 9]], [[2, 1], [5, 6]])
    0.75
    """
    found, exact = np.asarray(found), np.asarray(exact)
    if found.shape != exact.shape:
        raise ValueError(f"found and exact must have one shape, not {found.shape} and {exact.shape}.")
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), exact.tolist())]))
