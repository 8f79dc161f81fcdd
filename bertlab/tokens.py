"""Text -> tokens, ids and segments -> hidden states.

Taught in notebooks/01_cls_token.ipynb.
Source: Devlin et al. 2019, arXiv 1810.04805, section 3 (input representation) and figure 2.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from .checkpoints import load_model, load_tokenizer, resolve
from .inputs import sequence, short, whole


@dataclass(frozen=True)
class Word:
    """One word of a text, or one punctuation mark, and what became of it.

    text     as it was typed
    segment  0 in the first text, 1 in the second
    pieces   its word pieces, [UNK] if the vocabulary cannot write it
    kept     how many of the pieces fit; the others were cut
    unknown  why it became [UNK]; "" if it did not
    """

    text: str
    segment: int
    pieces: tuple[str, ...]
    kept: int
    unknown: str


@dataclass(frozen=True)
class Tokens:
    """One text (or a pair) as BERT reads it; the first four have one entry a token.

    tokens          word pieces, [CLS] and [SEP] included
    input_ids       their numbers in the vocabulary
    token_type_ids  0 for segment A, 1 for segment B
    words           the number of the word each piece belongs to; None for special tokens
    unknown         how many pieces are [UNK]
    cut             how many tokens did not fit
    all_words       every word of the text (of both texts), those that were cut as well
    """

    tokens: tuple[str, ...]
    input_ids: tuple[int, ...]
    token_type_ids: tuple[int, ...]
    words: tuple[int | None, ...]
    unknown: int
    cut: int
    all_words: tuple[Word, ...]


@dataclass(frozen=True, repr=False)
class Encoded:
    """What `encode` returns for B texts of at most T tokens by a model of L layers of width H.

    tokens          B lists of word pieces, without padding
    input_ids, attention_mask, token_type_ids   (B, T)
    hidden_states   L + 1 tensors (B, T, H): the embeddings, then each layer's output
    """

    tokens: tuple[tuple[str, ...], ...]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...]

    def __repr__(self) -> str:
        b, t = self.input_ids.shape
        return f"Encoded({b} texts, {t} tokens at most, {len(self.hidden_states) - 1} layers, width {self.hidden_states[0].shape[-1]})"


def check_text(text: str, name: str = "text") -> str:
    """Return `text`, or raise a ValueError that says what was given instead of a text.

    >>> check_text("A cat sat.")
    'A cat sat.'
    """
    if not isinstance(text, str):
        hint = " Pass the texts one at a time." if isinstance(text, (list, tuple)) else ""
        raise ValueError(f"{name} must be a string, not {type(text).__name__} ({short(text)}).{hint}")
    if not text.strip():
        raise ValueError(f"{name} is empty ({short(text, 20)}): give it at least one word.")
    if (half := next((c for c in text if "\ud800" <= c <= "\udfff"), None)) is not None:
        raise ValueError(f"{name} holds half a character (U+{ord(half):04X}), as a wrong decoding leaves it: read the file again with its right encoding.")
    return text


def check_texts(texts: Sequence[str]) -> list[str]:
    """A list of texts from one text or several; ValueError if one of them is no text."""
    texts = [texts] if isinstance(texts, str) else sequence(texts, "texts", "strings, or one string")
    if not texts:
        raise ValueError("texts must be a string or a list with at least one string, not [].")
    return [check_text(text, f"texts[{i}]") for i, text in enumerate(texts)]


def inspect_tokens(text: str, text_pair: str | None = None, max_length: int = 512) -> Tokens:
    """Cut a text (or a pair) into BERT's word pieces, with ids, segments, what did not fit and what is unknown.

    max_length  how many tokens fit, [CLS] and [SEP] included: 5 to 512; of a pair the longer text is cut first
    Raises ValueError for an empty text, anything that is no string, or another max_length.

    >>> inspect_tokens("A cat sat.", "It slept.").tokens
    ('[CLS]', 'a', 'cat', 'sat', '.', '[SEP]', 'it', 'slept', '.', '[SEP]')
    >>> inspect_tokens("A cat sat.", "It slept.").token_type_ids
    (0, 0, 0, 0, 0, 0, 1, 1, 1, 1)
    >>> [word.text for word in inspect_tokens("Three blind mice ran.", max_length=5).all_words if not word.kept]
    ['ran', '.']
    """
    texts = [check_text(text)] + ([] if text_pair is None else [check_text(text_pair, "text_pair")])
    whole(max_length, "max_length (BERT reads 512 tokens)", 5, 512)
    tokenizer = load_tokenizer(resolve("BERT"))
    everything = tokenizer(*texts, verbose=False)
    kept = tokenizer(*(_shorter(texts, everything, 0, max_length) if text_pair is not None else texts), truncation=True, max_length=max_length)
    ids = kept["input_ids"]
    return Tokens(
        tokens=tuple(tokenizer.convert_ids_to_tokens(ids)),
        input_ids=tuple(ids),
        token_type_ids=tuple(kept.get("token_type_ids", [0] * len(ids))),
        words=tuple(kept.word_ids()),
        unknown=ids.count(tokenizer.unk_token_id),
        cut=len(everything["input_ids"]) - len(ids),
        all_words=_words(texts, everything, kept, tokenizer),
    )


def _shorter(pair: Sequence[str], everything, row: int, limit: int) -> list[str]:
    """A pair with no more of each text than truncation to `limit` tokens can keep: of long pairs, truncation alone takes minutes.

    everything  the encoding of the uncut pairs, of which this is number `row`
    The longer text stays the longer one, for it gets the odd token.
    """
    of_text: tuple[list[int], list[int]] = ([], [])
    for segment, number in zip(everything.sequence_ids(row), everything.word_ids(row)):
        if number is not None:
            of_text[segment].append(number)
    longer = int(len(of_text[1]) >= len(of_text[0]))
    kept = []
    for segment, (text, words) in enumerate(zip(pair, of_text)):
        room = limit + (200 if segment == longer else 0)  # a word has at most 100 pieces
        kept.append(text[: everything.word_to_chars(row, words[room], segment).end] if len(words) > room else text)
    return kept


def _words(texts: list[str], everything, kept, tokenizer) -> tuple[Word, ...]:
    """The words of the texts from the encodings before (`everything`) and after truncation (`kept`)."""
    pieces: dict[tuple[int, int], list[str]] = {}
    for segment, number, token in zip(everything.sequence_ids(), everything.word_ids(), everything.tokens()):
        if number is not None:
            pieces.setdefault((segment, number), []).append(token)
    fit = Counter(zip(kept.sequence_ids(), kept.word_ids()))
    words = []
    for (segment, number), of_word in pieces.items():
        start, end = everything.word_to_chars(0, number, segment)
        text = texts[segment][start:end]
        why = _why_unknown(text, tokenizer) if tokenizer.unk_token in of_word else ""
        words.append(Word(text, segment, tuple(of_word), fit[segment, number], why))
    return tuple(words)


def _why_unknown(word: str, tokenizer) -> str:
    """Why a word became [UNK]: follow WordPiece, which takes the longest entry that fits, then goes on behind it."""
    model, entry = tokenizer.backend_tokenizer.model, tokenizer.backend_tokenizer.token_to_id
    spelled = tokenizer.backend_tokenizer.normalizer.normalize_str(word).strip() if tokenizer.backend_tokenizer.normalizer else word
    longest = getattr(model, "max_input_chars_per_word", None)  # only WordPiece has one
    if word == tokenizer.unk_token:
        return f"{word} itself was typed"
    if longest is not None and len(spelled) > longest:
        return f"it has {len(spelled)} characters, and a word may have {longest}"
    start = 0
    while longest is not None and start < len(spelled):
        prefix = "##" if start else ""
        ends = (end for end in range(len(spelled), start, -1) if entry(prefix + spelled[start:end]) is not None)
        if (end := next(ends, None)) is None:
            return f"the vocabulary has no entry for the character {spelled[start]} (U+{ord(spelled[start]):04X})"
        start = end
    return "the vocabulary has no entry for it"


WINDOW = 16  # batches that are tokenized, and sorted by their number of tokens, at a time


def tokenize(texts: Sequence[str], tokenizer, text_pairs: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
    """Padded tensors (B, T), with a warning where a text was cut or could not be read.

    Raises ValueError for empty texts and for lists of unequal length.
    """
    texts = check_texts(texts)
    if text_pairs is not None:
        text_pairs = check_texts(text_pairs)
        if len(text_pairs) != len(texts):
            raise ValueError(f"There are {len(texts)} first and {len(text_pairs)} second texts: give as many of each.")
    losses = Losses(_limit(tokenizer))
    rows = _rows(texts, text_pairs, tokenizer, losses)
    losses.warn(stacklevel=4)
    return _padded(rows, range(len(texts)), tokenizer)


def batches(texts: Sequence[str], tokenizer, size: int) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """The texts in batches with little padding, for texts of like length share one: (their places in `texts`, padded tensors (B, T)).

    The longest come first, so that too little memory shows at once. What is held does not grow with the number of texts.
    Warns at the end if texts were cut or could not be read. The texts must have been checked.

    >>> tokenizer = load_tokenizer(resolve("BERT"))
    >>> [(places, batch["input_ids"].shape[1]) for places, batch in batches(["Rain.", "A cat sat.", "Snow."], tokenizer, 2)]
    [([1, 0], 6), ([2], 4)]
    """
    order, losses = sorted(range(len(texts)), key=lambda i: -len(texts[i])), Losses(_limit(tokenizer))
    for start in range(0, len(order), size * WINDOW):
        window = order[start : start + size * WINDOW]
        rows = _rows([texts[i] for i in window], None, tokenizer, losses)
        by_tokens = sorted(range(len(window)), key=lambda i: -len(rows["input_ids"][i]))
        for some in (by_tokens[at : at + size] for at in range(0, len(by_tokens), size)):
            yield [window[i] for i in some], _padded(rows, some, tokenizer)
    losses.warn(stacklevel=4)


@dataclass
class Losses:
    """What of some texts does not reach the model: the rest of long ones, and words that the vocabulary cannot write."""

    limit: int  # tokens that the model reads
    longest: int = 0
    text: str = ""  # the longest
    tokens: int = 0
    unknown: int = 0

    def warn(self, stacklevel: int) -> None:
        if self.longest > self.limit:
            warnings.warn(
                f"A text has {self.longest} tokens ({self.text!r:.40}...); BERT reads {self.limit}, so the rest was cut. Split long texts.",
                stacklevel=stacklevel,
            )
        if self.unknown:
            warnings.warn(
                f"{self.unknown} of {self.tokens} tokens are [UNK]: this vocabulary does not know them, "
                "so the model cannot tell them apart. Use English text or another checkpoint (BERTLAB_BERT).",
                stacklevel=stacklevel,
            )


def _limit(tokenizer) -> int:
    return min(tokenizer.model_max_length, 512)


def _rows(texts: list[str], text_pairs: list[str] | None, tokenizer, losses: Losses) -> dict[str, list[list[int]]]:
    """input_ids and so on of each text, without padding; what is lost is added to `losses`."""
    both = (texts, text_pairs) if text_pairs is not None else (texts,)
    rows = tokenizer(*both, verbose=False)
    lengths = [len(ids) for ids in rows["input_ids"]]
    if (most := max(lengths)) > losses.longest:
        losses.longest, losses.text = most, texts[lengths.index(most)]
    if most > losses.limit:
        if text_pairs is not None:
            both = tuple(map(list, zip(*(_shorter(pair, rows, row, losses.limit) for row, pair in enumerate(zip(*both))))))
        rows = tokenizer(*both, truncation=True, max_length=losses.limit)
    losses.tokens += sum(map(len, rows["input_ids"]))
    losses.unknown += sum(ids.count(tokenizer.unk_token_id) for ids in rows["input_ids"])
    return dict(rows)


def _padded(rows: dict[str, list[list[int]]], some: Iterable[int], tokenizer) -> dict[str, torch.Tensor]:
    """Tensors (B, T) of some of the rows, padded to the longest of them."""
    return dict(tokenizer.pad({name: [lists[i] for i in some] for name, lists in rows.items()}, return_tensors="pt", verbose=False))


@torch.inference_mode()
def encode(texts: str | Sequence[str], text_pairs: Sequence[str] | None = None, *, model: str | None = None) -> Encoded:
    """Run texts through the encoder and keep every layer's hidden states.

    texts       one text or a list of B texts
    text_pairs  B second sentences, or nothing
    model       a checkpoint folder; bl.BERT if not given
    Raises ValueError for empty texts; warns where a text is cut at 512 tokens or unreadable.

    >>> encoded = encode(["A cat sat.", "Rain."])
    >>> encoded.attention_mask.tolist()
    [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]
    >>> encoded.hidden_states[-1].shape[:2]
    torch.Size([2, 6])
    """
    folder = model or resolve("BERT")
    tokenizer = load_tokenizer(folder)
    batch = tokenize(texts, tokenizer, text_pairs)
    output = load_model(folder)(**batch, output_hidden_states=True)
    pieces = tuple(
        tuple(tokenizer.convert_ids_to_tokens(ids[mask.bool()].tolist())) for ids, mask in zip(batch["input_ids"], batch["attention_mask"])
    )
    segments = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"]))
    return Encoded(pieces, batch["input_ids"], batch["attention_mask"], segments, output.hidden_states)


def layer_of(hidden_states: Sequence[torch.Tensor], layer: int) -> torch.Tensor:
    """One of L + 1 hidden states: 0 the embeddings, L or -1 the last layer; ValueError for a layer that does not exist."""
    return hidden_states[whole(layer, "layer", -len(hidden_states), len(hidden_states) - 1)]


@torch.inference_mode()
def word_vectors(texts: Sequence[str], word: str, *, layer: int = -1, model: str | None = None) -> torch.Tensor:
    """The vector of `word` in each text: the mean over its pieces of one layer's hidden states.

    Returns (B, H). Raises ValueError if a text does not contain the word (whole, upper or lower case).

    >>> word_vectors(["She sat on the bank.", "The bank was closed."], "bank").shape[0]
    2
    """
    folder = model or resolve("BERT")
    tokenizer = load_tokenizer(folder)
    texts = check_texts(texts)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
    wanted = tokenizer(check_text(word, "word"), add_special_tokens=False, verbose=False)["input_ids"]
    if not wanted:
        raise ValueError(f"word is nothing that BERT reads ({short(word)}): give a word with at least one letter.")
    hidden = layer_of(load_model(folder)(**batch, output_hidden_states=True).hidden_states, layer)  # (B, T, H)
    rows = []
    for row, text in enumerate(texts):
        ids = batch["input_ids"][row].tolist()
        starts = [i for i in range(len(ids) - len(wanted) + 1) if ids[i : i + len(wanted)] == wanted]
        if not starts:
            raise ValueError(f"The word {short(word)} does not occur in {short(text, 80)}.")
        rows.append(hidden[row, starts[0] : starts[0] + len(wanted)].mean(0))
    return torch.stack(rows)
