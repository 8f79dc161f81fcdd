"""PoolingBench: two sentences, every way to pool them. Taught in notebooks/02_pooling.ipynb."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import ipywidgets
import torch

from ..checkpoints import load_model, load_tokenizer, resolve
from ..datasets import SimilarityPair, similarity_pairs, word_overlap
from ..pooling import cosine, padding_reaches, pool, pooling_modes
from ..tokens import check_text, tokenize
from .pairs import PairPanel
from .panel import STYLE, bar, table

LIMIT = 512  # tokens that BERT reads
CHOICE = (("shared_words", 0), ("ordinary", 0), ("shared_words", 0.5), ("shared_words", 2), ("ordinary", 3), ("few_shared_words", 4.5), ("few_shared_words", 5), ("ordinary", 5))  # fmt: skip
KINDS = {"shared_words": "most words shared", "few_shared_words": "few words shared", "ordinary": "ordinary"}


@dataclass(frozen=True)
class PooledPair:
    """Cosine similarity of two sentences, for each pooling mode, with the attention mask and without it.

    with_mask, without_mask  {mode: cosine}
    kept          {mode: (cosine for A, for B)}: the vector without the mask against the right one of the same sentence
    untouchable   modes that padding cannot reach, even if they ignore the mask
    careless      modes that padding reaches even though they are given the mask
    failed        {mode: what its error said}; such a mode is in none of the others
    graded        the pair in data/ with the authors' grade (0 to 5), or None
    """

    layer: int
    padding: int
    with_mask: dict[str, float]
    without_mask: dict[str, float]
    kept: dict[str, tuple[float, float]]
    untouchable: tuple[str, ...]
    careless: tuple[str, ...]
    failed: dict[str, str]
    graded: SimilarityPair | None

    @property
    def grade(self) -> float | None:
        return self.graded and self.graded.grade


@torch.inference_mode()
def compare_pooling(sentence_a: str, sentence_b: str, layer: int = -1, padding: int = 0) -> PooledPair:
    """Pool both sentences in every mode; `padding` adds that many [PAD] tokens to each.

    layer  0 for the embeddings, 1 for the first layer's output, and so on; -1 for the last
    "Without the mask" is the widespread mistake: the model gets the right mask, the pooling does not.
    Raises ValueError for empty sentences, a layer that does not exist, and padding for which there is no room.
    A mode that fails, such as a plugin's, is reported in `failed` and does not stop the others.

    >>> result = compare_pooling("Rain fell.", "It rained.", padding=4)
    >>> result.untouchable, result.careless                     # [CLS] comes first, padding last
    (('cls',), ())
    """
    folder = resolve("BERT")
    layers = load_model(folder).config.num_hidden_layers
    if not -layers - 1 <= layer <= layers:
        raise ValueError(f"There is no layer {layer}: choose from 0, the embeddings, to {layers}, the last.")
    texts = (check_text(sentence_a, "sentence_a"), check_text(sentence_b, "sentence_b"))
    padded = [_hidden(text, name, folder, layer, padding) for text, name in zip(texts, "AB")]
    columns, failed, untouchable, careless = {}, {}, [], []
    for mode in pooling_modes():
        try:
            columns[mode] = _compare(padded, mode)
            reached = [any(padding_reaches(mode, hidden[:, : int(mask.sum())], masked=masked) for hidden, mask in padded) for masked in (True, False)]
        except Exception as error:  # a plugin's mistake is a row of the table, not the end of the bench
            failed[mode] = f"{type(error).__name__}: {error}"
            columns.pop(mode, None)
            continue
        careless += [mode] if reached[0] else []
        untouchable += [] if reached[1] else [mode]
    with_mask, without_mask, kept = ({mode: values[i] for mode, values in columns.items()} for i in range(3))
    graded = next((p for p in similarity_pairs() if {p.sentence_a, p.sentence_b} == {sentence_a, sentence_b}), None)
    return PooledPair(layer % (layers + 1), padding, with_mask, without_mask, kept, tuple(untouchable), tuple(careless), failed, graded)


def _hidden(text: str, name: str, folder: str, layer: int, padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One sentence with its padding: (1, T, H) of a layer, and the mask (1, T)."""
    tokenizer = load_tokenizer(folder)
    batch = tokenize([text], tokenizer)
    room = LIMIT - batch["input_ids"].shape[1]
    if not 0 <= padding <= room:
        raise ValueError(f"Sentence {name} takes {LIMIT - room} of the {LIMIT} tokens that BERT reads: padding can be 0 to {room}, not {padding}.")
    fill = {"input_ids": tokenizer.pad_token_id}
    batch = {key: torch.nn.functional.pad(value, (0, padding), value=fill.get(key, 0)) for key, value in batch.items()}
    return load_model(folder)(**batch, output_hidden_states=True).hidden_states[layer], batch["attention_mask"]


def _compare(padded: list[tuple[torch.Tensor, torch.Tensor]], mode: str) -> tuple[float, float, tuple[float, float]]:
    """The cosine of A and B with the mask and without it, and what each sentence's vector keeps of itself without it."""
    right = [pool(hidden[:, : int(mask.sum())], mask[:, : int(mask.sum())], mode)[0] for hidden, mask in padded]  # (H,) each, no padding
    masked = [pool(hidden, mask, mode)[0] for hidden, mask in padded]
    unmasked = [pool(hidden, torch.ones_like(mask), mode)[0] for hidden, mask in padded]
    if not all(vector.isfinite().all() for vector in (*right, *masked, *unmasked)):
        raise ValueError("its vectors hold numbers that are not finite")
    kept = tuple(float(cosine(u, r)) for u, r in zip(unmasked, right))
    return float(cosine(*masked)), float(cosine(*unmasked)), kept


def graded_examples() -> dict[str, SimilarityPair]:
    """A few pairs of data/, from low to high grade: {what the list says: pair}.

    Of those with shared words the pair that shares most is taken, of those with few the pair that shares fewest.
    """
    examples = {}
    for kind, grade in CHOICE:
        pairs = [p for p in similarity_pairs("test") if (p.kind, p.grade) == (kind, grade)]
        sign = {"shared_words": -1, "few_shared_words": 1, "ordinary": 0}[kind]
        pair = min(pairs, key=lambda p: sign * word_overlap(p.sentence_a, p.sentence_b))
        examples[f"{grade:g} of 5, {KINDS[kind]}: {pair.sentence_a}"] = pair
    return examples


def render_pooled(result: PooledPair) -> str:
    """PooledPair -> an escaped table, one row a pooling mode, and what it means in words."""
    rows = []
    for mode, value in result.with_mask.items():
        right, wrong = round(value, 2), round(result.without_mask[mode], 2)  # the difference is that of the numbers beside it
        rows.append([mode, f"{right:.2f}", bar(right, 10), f"{wrong:.2f}", signed(wrong - right), _effect(result, mode)])
    rows += [[mode, "failed", "", "", "", error] for mode, error in result.failed.items()]
    amount = f"{result.padding} padding token{'' if result.padding == 1 else 's'} each"
    headers = ["pooling", "with mask", "", "without mask", "difference", "what ignoring the mask does to A and B"]
    return f"<p>{_grade(result)}</p>" + table(headers, rows, f"Cosine of A and B at layer {result.layer}, {amount}") + _words(result)


def signed(value: float) -> str:
    """A difference with its sign; what rounds to nothing has none.

    >>> signed(0.014), signed(-0.5), signed(-0.001)
    ('+0.01', '-0.50', '0.00')
    """
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}"


def _effect(result: PooledPair, mode: str) -> str:
    if mode in result.untouchable:
        return "nothing: padding cannot touch it"
    if not result.padding:
        return "nothing yet: no padding"
    a, b = result.kept[mode]
    return f"cosine with the right vector {a:.2f} and {b:.2f}"


def _grade(result: PooledPair) -> str:
    if result.graded is None:
        return "The authors' grade: none, this is not a pair of data/."
    return f"The authors' grade: <b>{result.grade:g} of 5</b> {bar(result.grade / 5, 10)} ({KINDS[result.graded.kind]})."


def _words(result: PooledPair) -> str:
    untouchable = ", ".join(result.untouchable) or "none"
    others = ", ".join(mode for mode in result.with_mask if mode not in (*result.untouchable, *result.careless)) or "none"
    said = [f"Modes that padding cannot touch: {untouchable}. Modes that need the mask: {others}."]
    if not result.padding:
        said.append("There is no padding here, so ignoring the mask changes nothing. That is why a test with one sentence does not find the mistake.")
    if result.careless:
        said.append(f"Modes that let padding in although they are given the mask: {', '.join(result.careless)}.")
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in said)


class PoolingBench(PairPanel):
    """Two sentences, typed or chosen, a layer and some padding: the cosine for each pooling mode, with and without the mask."""

    title = "Pooling bench"

    def __init__(self, sentence_a: str, sentence_b: str):
        last = load_model(resolve("BERT")).config.num_hidden_layers
        layers = [("0, the embeddings", 0), *((str(n), n) for n in range(1, last)), (f"{last}, the last", last)]
        self.layer = ipywidgets.Dropdown(options=layers, value=last, description="Layer", style=STYLE)
        self.padding = ipywidgets.BoundedIntText(value=0, min=0, max=256, description="Extra padding", style=STYLE)
        super().__init__(sentence_a, sentence_b, graded_examples(), "Graded pair", [self.layer, self.padding], [self.layer, self.padding])

    def compute(self) -> PooledPair:
        return compare_pooling(self.sentence_a.value, self.sentence_b.value, self.layer.value, self.padding.value)

    def render(self, result: PooledPair) -> str:
        return render_pooled(result)
