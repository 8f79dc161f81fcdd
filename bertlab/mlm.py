"""Masked-language modelling: hide 15 % of the tokens, guess them from both sides.

Taught in notebooks/03_masked_language_model.ipynb.
Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1, task 1, and appendix A.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from .checkpoints import load_model, load_tokenizer, require, resolve
from .inputs import number, short, whole
from .tokens import check_text, tokenize

IGNORE = -100  # the label that cross_entropy skips
TOKENS_AT_ONCE = 4096  # tokens in one pass of the model: bounds the memory


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
    if not isinstance(input_ids, torch.Tensor) or input_ids.dtype not in (torch.int32, torch.int64):
        raise ValueError("mask_tokens needs input_ids as a tensor of integers, for example tokenizer(text, return_tensors='pt').input_ids.")
    if isinstance(probability, bool) or not isinstance(probability, (int, float)) or not 0 < probability < 1:
        raise ValueError(f"probability must lie between 0 and 1, not {short(probability)}; BERT uses 0.15.")
    if not isinstance(split, (tuple, list)) or len(split) != 3 or abs(sum(number(share, "a share of split", 0, 1) for share in split) - 1) > 1e-6:
        raise ValueError(f"split must be three shares that sum to 1, such as (0.8, 0.1, 0.1), not {short(split)}.")
    for name, other in (("special_tokens_mask", special_tokens_mask), ("word_ids", word_ids)):
        shape = tuple(other.shape) if isinstance(other, torch.Tensor) else type(other).__name__
        if other is not None and shape != tuple(input_ids.shape):
            raise ValueError(f"{name} has shape {shape}, but input_ids has {tuple(input_ids.shape)}.")
    if not input_ids.ndim:
        raise ValueError("input_ids must have the shape (T,) or (B, T), but it is a single number.")
    if generator is None and seed is not None:
        generator = torch.Generator().manual_seed(whole(seed, "seed"))
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
    whole(top_k, "top_k", 1, tokenizer.vocab_size)
    require(folder, "mlm")
    masks = check_text(text).count(tokenizer.mask_token)
    if not masks:
        raise ValueError(f"There is no {tokenizer.mask_token} in {text!r:.80}: put {tokenizer.mask_token} where a word is hidden.")
    encoded = tokenize(text, tokenizer)
    hidden_at = encoded["input_ids"][0] == tokenizer.mask_token_id  # (T,)
    if int(hidden_at.sum()) < masks:
        raise ValueError(f"A {tokenizer.mask_token} lies beyond the {len(hidden_at)} tokens that BERT reads: shorten the text.")
    (at,) = hidden_at.nonzero(as_tuple=True)
    return _guesses(_log_probabilities(folder, encoded, torch.zeros_like(at), at), tokenizer, top_k)


def _log_probabilities(folder: str, batch: dict[str, torch.Tensor], rows: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """(N, V): log-probabilities at the N tokens (rows[i], at[i]) of a batch (B, T), `TOKENS_AT_ONCE` tokens a pass.

    The MLM head multiplies each hidden state by the whole vocabulary, so it sees only the N tokens asked for.
    """
    model = load_model(folder, "mlm")
    step = max(1, TOKENS_AT_ONCE // batch["input_ids"].shape[1])
    found = []
    for start in range(0, len(batch["input_ids"]), step):
        part = {name: tensor[start : start + step] for name, tensor in batch.items()}
        inside = (rows >= start) & (rows < start + step)
        where = (rows[inside] - start, at[inside])
        if hasattr(model, "bert") and hasattr(model, "cls"):
            logits = model.cls(model.bert(**part).last_hidden_state[where])
        else:  # another architecture (BERTLAB_BERT)
            logits = model(**part).logits[where]
        found.append(logits.log_softmax(-1))
    return torch.cat(found)


def _guesses(log_probabilities: torch.Tensor, tokenizer, top_k: int) -> list[list[Prediction]]:
    best = log_probabilities.topk(top_k)
    return [
        [Prediction(token, round(p, 6)) for token, p in zip(tokenizer.convert_ids_to_tokens(ids), probabilities)]
        for ids, probabilities in zip(best.indices.tolist(), best.values.exp().tolist())
    ]


# ---------------------------------------------------------------- the learner's own sentence, word by word


@dataclass(frozen=True)
class Word:
    """A word as BERT's tokenizer cuts it: spaces and punctuation separate words, a punctuation mark is one itself.

    text        as it stands in the sentence
    start, end  sentence[start:end] == text
    tokens      the positions of its pieces among the sentence's tokens ([CLS] has position 0)
    pieces      its word pieces
    """

    text: str
    start: int
    end: int
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]


def split_words(text: str, *, model: str | None = None) -> tuple[Word, ...]:
    """The words of a text, as far as BERT reads it (512 tokens); a [MASK] in it is a word too.

    Raises ValueError for an empty text or one that consists of signs which the tokenizer removes.

    >>> [word.text for word in split_words("It's a thermometer.")]
    ['It', "'", 's', 'a', 'thermometer', '.']
    >>> split_words("It's a thermometer.")[4].pieces
    ('the', '##rm', '##ometer')
    """
    tokenizer = load_tokenizer(model or resolve("BERT"))
    encoded = tokenizer(check_text(text), truncation=True, max_length=min(tokenizer.model_max_length, 512))
    tokens: dict[int, list[int]] = {}
    for position, number in enumerate(encoded.word_ids()):
        if number is not None:
            tokens.setdefault(number, []).append(position)
    if not tokens:
        raise ValueError(f"The tokenizer finds no word in {text!r:.40}: give it at least one word.")
    pieces = encoded.tokens()
    spans = {number: encoded.word_to_chars(number) for number in tokens}
    return tuple(
        Word(text[spans[n].start : spans[n].end], spans[n].start, spans[n].end, tuple(of), tuple(pieces[i] for i in of)) for n, of in tokens.items()
    )


@dataclass(frozen=True)
class Place:
    """One [MASK] and what the model says there.

    word         the number of its word in the text, 0 = first
    piece        the true piece; None where the text itself has [MASK]
    rank         of the true piece in the vocabulary, 1 = the model's first guess
    probability  of the true piece, 0 to 1
    guesses      the most probable pieces, the best first
    """

    word: int
    piece: str | None
    rank: int | None
    probability: float | None
    guesses: tuple[Prediction, ...]


@torch.inference_mode()
def guess_hidden(text: str, hidden: Sequence[int], top_k: int = 5, *, together: bool = True, model: str | None = None) -> list[Place]:
    """Hide words of a text, one [MASK] a piece; the model's guesses there, and how it rates the true pieces.

    hidden    numbers of words of `split_words(text)`, 0 = first; a [MASK] in the text is hidden anyway
    together  True: all words hidden in one pass. False: each word hidden alone, the others shown (a [MASK] of the text stays)
    Returns one `Place` a hidden piece, in the order of the text. Either way it is one batch through the model.
    Raises ValueError for numbers of words that the text does not have.

    >>> place, = guess_hidden("The cat sat on the mat.", [1])
    >>> place.piece, len(place.guesses), place.rank >= 1
    ('cat', 5, True)
    >>> [place.piece for place in guess_hidden("Her thermometer fell [MASK].", [1])]
    ['the', '##rm', '##ometer', None]
    """
    folder = model or resolve("BERT")
    tokenizer = load_tokenizer(folder)
    words = split_words(text, model=folder)
    if wrong := [number for number in hidden if not 0 <= number < len(words)]:
        raise ValueError(f"There is no word {wrong[0]}: the text has {len(words)} words, with the numbers 0 to {len(words) - 1}.")
    encoded = tokenize(text, tokenizer)
    ids = encoded["input_ids"][0]  # (T,)
    open_ = {number for number, word in enumerate(words) if ids[word.tokens[0]] == tokenizer.mask_token_id}
    asked = sorted(open_ | set(hidden))
    if not asked:
        return []
    spots = [(word, position) for word in asked for position in words[word].tokens]
    at = torch.tensor([position for _, position in spots])  # (N,)
    if together:
        rows = torch.zeros_like(at)
        ids_hidden = ids.clone()[None]  # (1, T)
        ids_hidden[0, at] = tokenizer.mask_token_id
    else:
        rows = torch.tensor([asked.index(word) for word, _ in spots])
        ids_hidden = ids.repeat(len(asked), 1)  # (words, T)
        ids_hidden[rows, at] = tokenizer.mask_token_id
    batch = {name: tensor.expand(len(ids_hidden), -1) for name, tensor in encoded.items()} | {"input_ids": ids_hidden}
    log_p = _log_probabilities(folder, batch, rows, at)  # (N, V)
    true = log_p.gather(1, ids[at, None])  # (N, 1)
    ranks = (log_p > true).sum(1) + 1
    places = []
    for (word, position), rank, p, guesses in zip(spots, ranks.tolist(), true.exp().flatten().tolist(), _guesses(log_p, tokenizer, top_k)):
        known = word not in open_
        piece = words[word].pieces[words[word].tokens.index(position)]
        places.append(Place(word, piece if known else None, rank if known else None, round(p, 6) if known else None, tuple(guesses)))
    return places


@dataclass(frozen=True)
class Corrupted:
    """One token before and after `mask_tokens`.

    piece        the true piece
    seen         what the model reads in its place
    fate         "[MASK]", "random" or "kept" if it was chosen, else None
    probability  that the model, reading the corrupted text, gives to the true piece; None if it was not chosen
    """

    piece: str
    seen: str
    fate: str | None
    probability: float | None


@torch.inference_mode()
def replay_masking(text: str, probability: float = 0.15, seed: int = 0, *, model: str | None = None) -> list[Corrupted]:
    """What `mask_tokens` does to a text, token by token, and what the model makes of it; without [CLS] and [SEP].

    The fate is read off the result: a random piece that happens to be the true one counts as kept (1 in V).

    >>> tokens = replay_masking("The cat sat on the mat.", probability=0.5, seed=2)
    >>> [token.piece for token in tokens]
    ['the', 'cat', 'sat', 'on', 'the', 'mat', '.']
    >>> all(token.seen == token.piece for token in tokens if token.fate in (None, "kept"))
    True
    """
    folder = model or resolve("BERT")
    tokenizer = load_tokenizer(folder)
    split_words(text, model=folder)  # ValueError where there is no word
    encoded = tokenize(text, tokenizer)
    ids = encoded["input_ids"]  # (1, T)
    masked = mask_tokens(ids, tokenizer, probability, seed=seed)
    (at,) = (masked.labels[0] != IGNORE).nonzero(as_tuple=True)  # (N,)
    found: dict[int, float] = {}
    if len(at):
        log_p = _log_probabilities(folder, encoded | {"input_ids": masked.input_ids}, torch.zeros_like(at), at)
        found = dict(zip(at.tolist(), log_p.gather(1, ids[0, at, None]).exp().flatten().tolist()))
    pieces, seen = (tokenizer.convert_ids_to_tokens(row[0].tolist()) for row in (ids, masked.input_ids))
    tokens = []
    for position in range(1, len(pieces) - 1):
        fate = None
        if position in found:
            fate = "[MASK]" if seen[position] == tokenizer.mask_token else "kept" if seen[position] == pieces[position] else "random"
        tokens.append(Corrupted(pieces[position], seen[position], fate, round(found[position], 6) if fate else None))
    return tokens


@dataclass(frozen=True)
class Surprise:
    """How little the model expected a piece: -log2 of its probability when it alone is hidden, in bits (0 = certain).

    word  the number of its word in the text, 0 = first
    """

    piece: str
    word: int
    bits: float


@torch.inference_mode()
def surprise(text: str, *, model: str | None = None) -> list[Surprise]:
    """Hide each piece of a text in turn; the model's surprise at the true one. A [MASK] of the text stays and is not asked for.

    The sum over a text is minus its pseudo-log-likelihood (here in bits), 2 ** mean its pseudo-perplexity: Salazar et
    al. 2020, arXiv 1910.14659, section 2. The other pieces of a word stay visible and give it away, so long words
    look less surprising than they are (Kauf and Ivanova 2023, arXiv 2305.10588).

    A text of T tokens costs T - 2 passes of length T, in batches.

    >>> good, bad = (sum(s.bits for s in surprise(f"He drank a cup of {word}.")) for word in ("tea", "table"))
    >>> good < bad
    True
    """
    folder = model or resolve("BERT")
    tokenizer = load_tokenizer(folder)
    encoded = tokenize(text, tokenizer)
    ids = encoded["input_ids"][0]  # (T,)
    spots = [
        (piece, number, position)
        for number, word in enumerate(split_words(text, model=folder))
        for piece, position in zip(word.pieces, word.tokens)
        if ids[position] != tokenizer.mask_token_id
    ]
    if not spots:
        raise ValueError(f"There is nothing but {tokenizer.mask_token} in {text!r:.80}: give it at least one word.")
    at = torch.tensor([position for *_, position in spots])  # (N,)
    rows = torch.arange(len(at))
    hidden = ids.repeat(len(at), 1)  # (N, T)
    hidden[rows, at] = tokenizer.mask_token_id
    batch = {name: tensor.expand(len(at), -1) for name, tensor in encoded.items()} | {"input_ids": hidden}
    bits = -_log_probabilities(folder, batch, rows, at).gather(1, ids[at, None]).flatten() / math.log(2)
    return [Surprise(piece, number, round(b, 6) + 0.0) for (piece, number, _), b in zip(spots, bits.tolist())]


def pseudo_perplexity(surprises: Sequence[Surprise]) -> float:
    """2 to the power of the mean surprise: as unsure as if the model chose evenly among that many pieces.

    >>> pseudo_perplexity([Surprise("a", 0, 1.0), Surprise("b", 1, 3.0)])
    4.0
    """
    return 2 ** (sum(s.bits for s in surprises) / len(surprises))
