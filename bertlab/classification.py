"""One label for a whole text: a new linear head on [CLS] or on a pooled vector.

Taught in notebooks/06_classification.ipynb.
Source: Devlin et al. 2019, arXiv 1810.04805, section 4.1 (the final vector of [CLS] and one new layer).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers.modeling_outputs import SequenceClassifierOutput

from .checkpoints import _load, resolve
from .inputs import number, numbers, one_of, whole
from .intervals import bootstrap
from .pooling import pool, pooling_modes
from .tokens import check_texts, tokenize

POOLER = "pooler"  # BERT's own way: [CLS] through a dense layer and tanh


@dataclass(frozen=True)
class Accuracy:
    """How many of `total` answers are right; low and high are the 95 % Wilson interval of the share.

    Source: Wilson 1927. Taught in notebooks/04_next_sentence_prediction.ipynb, section 6.

    >>> score = Accuracy(50, 100)
    >>> score.share, round(score.low, 2), round(score.high, 2)
    (0.5, 0.4, 0.6)
    >>> print(score)
    0.50 [0.40, 0.60], 50 of 100
    """

    right: int
    total: int

    def __post_init__(self):
        if not 0 <= self.right <= self.total or not self.total:
            raise ValueError(f"{self.right} right of {self.total} is no accuracy: give 0 <= right <= total, and at least one answer.")

    @property
    def share(self) -> float:
        return self.right / self.total

    @property
    def low(self) -> float:
        return self._wilson(-1)

    @property
    def high(self) -> float:
        return self._wilson(+1)

    def _wilson(self, sign: int, z: float = 1.959964) -> float:
        n, p = self.total, self.share
        end = (p + z * z / (2 * n) + sign * z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5) / (1 + z * z / n)
        return min(1.0, max(0.0, end))

    def __str__(self) -> str:
        return f"{self.share:.2f} [{self.low:.2f}, {self.high:.2f}], {self.right} of {self.total}"


def accuracy(said: Sequence[int], labels: Sequence[int]) -> Accuracy:
    """The answers `said` (N labels) against the true `labels` (N).

    >>> accuracy([1, 0, 1], [1, 1, 1]).right
    2
    """
    said, labels = _same_length(said, labels)
    return Accuracy(int((said == labels).sum()), len(labels))


def accuracy_by_kind(said: Sequence[int], examples: Sequence) -> dict[str, Accuracy]:
    """`accuracy` for each kind of example (SentimentExample, see bertlab.datasets), the largest group first.

    >>> from bertlab.datasets import sentiment
    >>> list(accuracy_by_kind([1] * 403, sentiment("test")))
    ['plain', 'negation', 'mixed', 'implied', 'irony']
    """
    said, labels = _same_length(said, [e.label for e in examples])
    kinds = np.array([e.kind for e in examples])
    names, counts = np.unique(kinds, return_counts=True)
    return {str(kind): accuracy(said[kinds == kind], labels[kinds == kind]) for _, kind in sorted(zip(-counts, names))}


def bootstrap_gap(right_a: Sequence[bool], right_b: Sequence[bool], *, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """(gap, low, high): how much more often a is right than b on the same N examples, with a 95 % interval.

    The examples are drawn anew, with repetition, `draws` times; each draw keeps a's and b's answers to an example
    together. Rows of several runs, (R, N), are averaged first: the interval is then about the examples, not the seeds.
    Source: Efron & Tibshirani 1993, chapter 13 (percentile interval). Taught in notebooks/02_pooling.ipynb.

    >>> bootstrap_gap([True] * 50, [False] * 50)
    (1.0, 1.0, 1.0)
    """
    a, b = (np.atleast_2d(numbers(right, "right_a and right_b", (1, 2))).mean(0) for right in (right_a, right_b))  # (N,)
    a, b = _same_length(a, b)
    return float((a - b).mean()), *bootstrap(a - b, draws, seed)


def _same_length(a, b) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"There must be one answer for each example, not {a.shape} for {b.shape}.")
    return a, b


# ---------------------------------------------------------------- the model


class SentenceClassifier(torch.nn.Module):
    """encoder -> one vector a text (B, H) -> dropout -> linear -> logits (B, labels).

    encoder  a transformers encoder such as BertModel; it is trained in place
    pooling  "pooler" ([CLS], dense layer, tanh: what BertForSequenceClassification does) or a mode of bl.pool
    seed     draws the head: normal, standard deviation as in the encoder's configuration, bias 0

    Called like BertForSequenceClassification, and answers like it. Raises ValueError for an unknown pooling.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    >>> model = SentenceClassifier(BertModel(tiny), pooling="mean")
    >>> model(torch.tensor([[1, 2, 3]]), torch.tensor([[1, 1, 0]])).logits.shape
    torch.Size([1, 2])
    """

    def __init__(self, encoder: torch.nn.Module, labels: int = 2, pooling: str = POOLER, dropout: float = 0.1, seed: int = 0):
        super().__init__()
        one_of(pooling, [POOLER, *pooling_modes()], "pooling")
        whole(labels, "labels", 1, 1_000_000), number(dropout, "dropout", 0, 1), whole(seed, "seed")
        if pooling == POOLER and getattr(encoder, "pooler", None) is None:
            raise ValueError(f"This {type(encoder).__name__} has no pooler: choose pooling='cls' or 'mean', or load it with its pooling layer.")
        self.encoder, self.pooling, self.dropout = encoder, pooling, torch.nn.Dropout(dropout)
        self.classifier = torch.nn.Linear(encoder.config.hidden_size, labels)
        generator = torch.Generator().manual_seed(seed)
        torch.nn.init.normal_(self.classifier.weight, std=getattr(encoder.config, "initializer_range", 0.02), generator=generator)
        torch.nn.init.zeros_(self.classifier.bias)

    def forward(self, input_ids, attention_mask, token_type_ids=None, labels=None) -> SequenceClassifierOutput:
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            batch["token_type_ids"] = token_type_ids
        logits = self.classifier(self.dropout(_vectors(self.encoder, batch, self.pooling)))  # (B, labels)
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def new_classifier(pooling: str = POOLER, *, labels: int = 2, seed: int = 0, model: str | None = None) -> SentenceClassifier:
    """A SentenceClassifier on a fresh copy of bl.BERT's encoder (or of another folder's), head untrained, eval mode."""
    from transformers import AutoModel

    return SentenceClassifier(_load(AutoModel, model or resolve("BERT")), labels, pooling, seed=seed).eval()


def loss_with(tokenizer) -> Callable[[torch.nn.Module, Sequence], torch.Tensor]:
    """The `loss_of` that bertlab.fine_tuning.fit asks for: cross-entropy on examples with .text and .label.

    It serves SentenceClassifier and transformers' own models for sequence classification.
    """

    def loss_of(model: torch.nn.Module, examples: Sequence) -> torch.Tensor:
        labels = torch.tensor([e.label for e in examples])  # (B,)
        return model(**tokenize([e.text for e in examples], tokenizer), labels=labels).loss

    return loss_of


@torch.inference_mode()
def classify(model: torch.nn.Module, tokenizer, texts: Sequence[str], *, batch_size: int = 64) -> torch.Tensor:
    """The probability of each label for many texts: (N, labels), rows in the order of the texts; dropout is off."""
    was_training = model.training
    model.eval()
    try:
        rows = [model(**batch).logits.softmax(-1) for batch in _batches(tokenizer, texts, batch_size)]
    finally:
        model.train(was_training)
    return torch.cat(rows)


@torch.no_grad()
def text_vectors(encoder: torch.nn.Module, tokenizer, texts: Sequence[str], pooling: str = "cls", *, batch_size: int = 64) -> torch.Tensor:
    """One vector a text, (N, H), from an encoder in memory, such as a fine-tuned one; dropout is off.

    `pooling` as in SentenceClassifier. For a checkpoint on disk see bertlab.sbert.sentence_vectors.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        rows = [_vectors(encoder, batch, pooling) for batch in _batches(tokenizer, texts, batch_size)]
    finally:
        encoder.train(was_training)
    return torch.cat(rows)


def _vectors(encoder, batch: dict, pooling: str) -> torch.Tensor:
    output = encoder(**batch)
    return output.pooler_output if pooling == POOLER else pool(output.last_hidden_state, batch["attention_mask"], pooling)


def _batches(tokenizer, texts: Sequence[str], size: int):
    texts = check_texts(texts)
    return (tokenize(texts[start : start + size], tokenizer) for start in range(0, len(texts), whole(size, "batch_size", 1)))
