"""Next-sentence prediction: [CLS] A [SEP] B [SEP], does B follow A?

Taught in notebooks/04_next_sentence_prediction.ipynb.
Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1, task 2.

Label order, everywhere in bertlab and in transformers: 0 = B follows A, 1 = B is another sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .checkpoints import load_model, load_tokenizer, resolve
from .inputs import sequence, short, whole
from .tokens import check_text, tokenize


@dataclass(frozen=True)
class NextSentence:
    """An answer of the NSP head.

    is_next  probability (0 to 1) that sentence_b follows sentence_a
    label    the more probable label in NSP's order: 0 = follows, 1 = does not
    """

    sentence_a: str
    sentence_b: str
    is_next: float

    @property
    def label(self) -> int:
        return int(self.is_next < 0.5)


def predict_next(sentence_a: str, sentence_b: str, *, segments: bool = True, model: str | None = None) -> NextSentence:
    """The probability that sentence_b follows sentence_a.

    segments  False puts both sentences into segment 0, to see what segment ids are for
    model     a checkpoint folder with an NSP head; bl.BERT if not given
    Raises ValueError for empty sentences, CheckpointError without an NSP head.

    >>> answer = predict_next("She opened the door.", "Then she stepped inside.")
    >>> 0 <= answer.is_next <= 1
    True
    """
    pair = (check_text(sentence_a, "sentence_a"), check_text(sentence_b, "sentence_b"))
    return predict_next_many([pair], segments=segments, model=model)[0]


@torch.inference_mode()
def predict_next_many(
    pairs: Sequence[tuple[str, str]], *, segments: bool = True, model: str | None = None, batch_size: int = 32
) -> list[NextSentence]:
    """`predict_next` for many (sentence_a, sentence_b) pairs at once."""
    folder = model or resolve("BERT")
    tokenizer, network = load_tokenizer(folder), load_model(folder, "nsp")
    answers, pairs = [], sequence(pairs, "pairs", "pairs (sentence_a, sentence_b)")
    if wrong := [pair for pair in pairs if not isinstance(pair, (tuple, list)) or len(pair) != 2]:
        raise ValueError(f"pairs must be a list of pairs (sentence_a, sentence_b), but one of them is {short(wrong[0])}.")
    for start in range(0, len(pairs), whole(batch_size, "batch_size", 1)):
        chunk = pairs[start : start + batch_size]
        batch = tokenize([a for a, _ in chunk], tokenizer, [b for _, b in chunk])
        if not segments:
            batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
        follows = network(**batch).logits.softmax(-1)[:, 0]  # (B,), label 0 = follows
        answers += [NextSentence(a, b, round(p, 6)) for (a, b), p in zip(chunk, follows.tolist())]
    return answers
