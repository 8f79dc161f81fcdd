"""PoolingBench: two sentences, every way to pool them. Taught in notebooks/02_pooling.ipynb."""

from __future__ import annotations

from dataclasses import dataclass

import ipywidgets
import torch

from ..checkpoints import load_model, load_tokenizer, resolve
from ..datasets import similarity_pairs
from ..pooling import cosine, pool, pooling_modes
from ..tokens import check_text
from .panel import STYLE, WIDE, Panel, bar, table


@dataclass(frozen=True)
class PooledPair:
    """Cosine similarity of two sentences, for each pooling mode, with the attention mask and without it.

    with_mask, without_mask  {mode: cosine}
    grade                    the authors' grade (0 to 5) if the pair comes from data/, else None
    """

    layer: int
    padding: int
    with_mask: dict[str, float]
    without_mask: dict[str, float]
    grade: float | None


@torch.inference_mode()
def compare_pooling(sentence_a: str, sentence_b: str, layer: int = -1, padding: int = 0) -> PooledPair:
    """Pool both sentences in every mode; `padding` adds that many [PAD] tokens to each.

    "Without the mask" is the widespread mistake: the model gets the right mask, the pooling does not.

    >>> result = compare_pooling("Rain fell.", "It rained.", padding=4)
    >>> result.with_mask["cls"] == result.without_mask["cls"]      # [CLS] comes first: padding cannot touch it
    True
    """
    folder = resolve("BERT")
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    vectors: dict[bool, dict[str, list[torch.Tensor]]] = {True: {}, False: {}}
    for text in (check_text(sentence_a, "sentence_a"), check_text(sentence_b, "sentence_b")):
        room = len(tokenizer(text, truncation=True, max_length=512 - padding)["input_ids"])
        batch = tokenizer(text, truncation=True, padding="max_length", max_length=room + padding, return_tensors="pt")
        hidden = model(**batch, output_hidden_states=True).hidden_states[layer]  # (1, T, H)
        for masked in (True, False):
            mask = batch["attention_mask"] if masked else torch.ones_like(batch["attention_mask"])
            for mode in pooling_modes():
                vectors[masked].setdefault(mode, []).append(pool(hidden, mask, mode)[0])
    cosines = {masked: {mode: float(cosine(a, b)) for mode, (a, b) in of.items()} for masked, of in vectors.items()}
    grade = next((p.grade for p in similarity_pairs() if {p.sentence_a, p.sentence_b} == {sentence_a, sentence_b}), None)
    return PooledPair(layer, padding, cosines[True], cosines[False], grade)


def render_pooled(result: PooledPair) -> str:
    """PooledPair -> an escaped table, one row a pooling mode."""
    rows = [[mode, f"{value:.2f}", bar(value, 10), f"{result.without_mask[mode]:.2f}"] for mode, value in result.with_mask.items()]
    grade = "not a pair of data/" if result.grade is None else f"{result.grade:g} of 5"
    caption = f"Cosine similarity, {result.padding} padding tokens"
    return table(["pooling", "with mask", "", "without mask"], rows, caption) + f"<p>The authors' grade: {grade}.</p>"


class PoolingBench(Panel):
    """Two sentences, a layer and some padding: the cosine for each pooling mode, with and without the mask."""

    title = "Pooling bench"

    def __init__(self, sentence_a: str, sentence_b: str):
        layers = load_model(resolve("BERT")).config.num_hidden_layers
        self.sentence_a = ipywidgets.Text(value=sentence_a, description="Sentence A", style=STYLE, layout=WIDE, continuous_update=False)
        self.sentence_b = ipywidgets.Text(value=sentence_b, description="Sentence B", style=STYLE, layout=WIDE, continuous_update=False)
        self.layer = ipywidgets.Dropdown(options=list(range(layers + 1)), value=layers, description="Layer", style=STYLE)
        self.padding = ipywidgets.BoundedIntText(value=0, min=0, max=64, description="Extra padding", style=STYLE)
        super().__init__([self.sentence_a, self.sentence_b, self.layer, self.padding])

    def compute(self) -> PooledPair:
        return compare_pooling(self.sentence_a.value, self.sentence_b.value, self.layer.value, self.padding.value)

    def render(self, result: PooledPair) -> str:
        return render_pooled(result)
