"""Masked-language modelling: hide 15 % of the tokens, guess them from both sides.

Taught in notebooks/03_masked_language_model.ipynb.
Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1, task 1, and appendix A.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from .checkpoints import load_model, load_tokenizer, resolve
from .tokens import check_text, tokenize

IGNORE = -100  # the label that cross_entropy skips


class Masked(NamedTuple):
    """What `mask_tokens` returns: both tensors have the shape of the input."""

    input_ids: torch.Tensor
    labels: torch.Tensor


def mask_tokens(
    input_ids: torch.Tensor,
    tokenizer,
    probability: float = 0.15,
    *,
    special_tokens_mask: torch.Tensor | None = None,
    word_ids: torch.Tensor | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    split: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> Masked:
    """Choose tokens to predict and corrupt them BERT's way: 80 % [MASK], 10 % random, 10 % kept.

    input_ids            (B, T) or (T,) token ids
    tokenizer            gives mask_token_id, vocab_size and the special tokens, which are never chosen
    probability          the share of ordinary tokens to predict, 0 < p < 1
    special_tokens_mask  same shape, 1 = never choose; taken from the tokenizer's special ids if not given
    word_ids             same shape, one number a word: choose whole words instead of single pieces
    seed or generator    makes the choice repeatable; with neither, torch's global generator draws
    split                shares of [MASK], random token, unchanged

    Returns `Masked(input_ids, labels)`; labels are IGNORE (-100) wherever nothing is to be
    predicted. A text can be so short that nothing is chosen: then all labels are -100, and the
    caller must not take a mean over nothing (that is NaN).

    Raises ValueError for a probability outside (0, 1), a split that does not sum to 1, ids that are
    no integers, or masks of another shape.

    >>> import torch
    >>> class Tiny: mask_token_id, vocab_size, all_special_ids = 103, 1000, [0, 101, 102, 103]
    >>> ids = torch.tensor([[101, 500, 501, 502, 503, 102]])
    >>> masked = mask_tokens(ids, Tiny, probability=0.5, seed=1)
    >>> bool((masked.labels[:, [0, -1]] == -100).all())     # [CLS] and [SEP] are never asked for
    True
    >>> chosen = masked.labels != -100
    >>> bool((masked.labels[chosen] == ids[chosen]).all())  # the label is the original token
    True
    """
    if not isinstance(input_ids, torch.Tensor) or input_ids.is_floating_point():
        raise ValueError("mask_tokens needs input_ids as a tensor of integers, for example tokenizer(text, return_tensors='pt').input_ids.")
    if not 0 < probability < 1:
        raise ValueError(f"probability must lie between 0 and 1, not {probability}; BERT uses 0.15.")
    if len(split) != 3 or abs(sum(split) - 1) > 1e-6 or min(split) < 0:
        raise ValueError(f"split must be three shares that sum to 1, such as (0.8, 0.1, 0.1), not {split}.")
    for name, other in (("special_tokens_mask", special_tokens_mask), ("word_ids", word_ids)):
        if other is not None and other.shape != input_ids.shape:
            raise ValueError(f"{name} has shape {tuple(other.shape)}, but input_ids has {tuple(input_ids.shape)}.")
    if generator is None and seed is not None:
        generator = torch.Generator().manual_seed(seed)
    if special_tokens_mask is None:
        special = torch.isin(input_ids, torch.tensor(tokenizer.all_special_ids))
    else:
        special = special_tokens_mask.bool()

    draw = torch.rand(input_ids.shape, generator=generator)  # one number a token
    if word_ids is not None:  # all pieces of a word share the draw of its first piece
        draw = _share_first(draw, word_ids)
    chosen = (draw < probability) & ~special
    labels = torch.where(chosen, input_ids, torch.full_like(input_ids, IGNORE))

    kind = torch.rand(input_ids.shape, generator=generator)
    random_ids = torch.randint(tokenizer.vocab_size, input_ids.shape, generator=generator).to(input_ids.dtype)
    corrupted = input_ids.clone()
    corrupted[chosen & (kind < split[0])] = tokenizer.mask_token_id
    swap = chosen & (kind >= split[0]) & (kind < split[0] + split[1])
    corrupted[swap] = random_ids[swap]
    return Masked(corrupted, labels)


def _share_first(draw: torch.Tensor, word_ids: torch.Tensor) -> torch.Tensor:
    """Give every piece the draw of the first piece of its word: neighbours with one word id belong together."""
    starts = torch.ones_like(word_ids, dtype=torch.bool)
    starts[..., 1:] = word_ids[..., 1:] != word_ids[..., :-1]
    position = torch.arange(word_ids.shape[-1]).expand_as(word_ids)
    first = torch.where(starts, position, torch.zeros_like(position)).cummax(-1).values
    return draw.gather(-1, first)


@dataclass(frozen=True)
class Prediction:
    """One guess for a [MASK]: a word piece and its probability (0 to 1)."""

    token: str
    probability: float


@torch.inference_mode()
def predict_masked(text: str, top_k: int = 5, *, model: str | None = None) -> list[list[Prediction]]:
    """The model's best guesses for each [MASK] of `text`, all masks predicted jointly in one pass.

    text    with at least one [MASK], at most 512 tokens
    top_k   guesses a mask
    model   a checkpoint folder with an MLM head; bl.BERT if not given
    Returns one inner list a [MASK], in the order of the text, the most probable first.
    Raises ValueError without a [MASK], CheckpointError without an MLM head.

    >>> guesses = predict_masked("The opposite of hot is [MASK].", top_k=3)
    >>> len(guesses), len(guesses[0])
    (1, 3)
    """
    folder = model or resolve("BERT")
    tokenizer = load_tokenizer(folder)
    if not isinstance(top_k, int) or not 1 <= top_k <= tokenizer.vocab_size:
        raise ValueError(f"top_k must be a whole number from 1 to {tokenizer.vocab_size}, not {top_k!r}.")
    masks = check_text(text).count(tokenizer.mask_token)
    if not masks:
        raise ValueError(f"There is no {tokenizer.mask_token} in {text!r:.80}: put {tokenizer.mask_token} where a word is hidden.")
    encoded = tokenize(text, tokenizer)
    hidden_at = encoded["input_ids"][0] == tokenizer.mask_token_id  # (T,)
    if int(hidden_at.sum()) < masks:
        raise ValueError(f"A {tokenizer.mask_token} lies beyond the {len(hidden_at)} tokens that BERT reads: shorten the text.")
    logits = load_model(folder, "mlm")(**encoded).logits[0, hidden_at]  # (masks, V)
    best = logits.softmax(-1).topk(top_k)
    return [
        [Prediction(token, round(p, 6)) for token, p in zip(tokenizer.convert_ids_to_tokens(ids), probabilities)]
        for ids, probabilities in zip(best.indices.tolist(), best.values.tolist())
    ]
