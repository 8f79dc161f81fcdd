"""SimilarityMap: how alike are some sentences, for a model and a pooling? Taught in notebooks/08_sentence_bert.ipynb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import ipywidgets

from ..checkpoints import resolve
from ..sbert import sentence_vectors
from ..tokens import check_text
from .panel import STYLE, WIDE, Panel

MODELS = {"bl.BERT": "BERT", "bl.SBERT": "SBERT"}
POOLING = ("mean", "cls", "max")
MOST = 12  # sentences


@dataclass(frozen=True)
class Similarities:
    """The cosines of some sentences: cosines[i][j] compares sentence i with sentence j, from -1 to 1."""

    sentences: tuple[str, ...]
    model: str
    pooling: str
    cosines: tuple[tuple[float, ...], ...]

    @property
    def pairs(self) -> list[tuple[float, int, int]]:
        """(cosine, i, j) of every two sentences, the most similar first."""
        n = len(self.sentences)
        return sorted(((self.cosines[i][j], i, j) for i in range(n) for j in range(i + 1, n)), reverse=True)


def compare_sentences(sentences: Sequence[str], model: str = "bl.SBERT", pooling: str = "mean") -> Similarities:
    """Every sentence against every other; model is a name from MODELS.

    Raises ValueError for fewer than 2 or more than 12 sentences, and for an unknown model or pooling.

    >>> compare_sentences(["It rained.", "Rain fell.", "Cats purr."]).pairs[0][1:]
    (0, 1)
    """
    import torch

    if model not in MODELS:
        raise ValueError(f"There is no model {model!r} here: choose from {', '.join(MODELS)}.")
    if not 2 <= len(sentences) <= MOST:
        raise ValueError(f"There must be 2 to {MOST} sentences, one a line; there are {len(sentences)}.")
    texts = [check_text(text, f"sentence {number}") for number, text in enumerate(sentences, 1)]
    unit = torch.nn.functional.normalize(sentence_vectors(texts, pooling, model=resolve(MODELS[model])), dim=-1)  # (N, H)
    table = (unit @ unit.T).clamp(-1, 1).tolist()
    return Similarities(tuple(texts), model, pooling, tuple(tuple(round(c, 4) for c in row) for row in table))


def render_similarities(result: Similarities) -> str:
    """Similarities -> an escaped table; the darker a cell, the higher the cosine, from 0 (white) to 1 (dark blue)."""
    head = "".join(f'<th scope="col">{number}</th>' for number in range(1, len(result.sentences) + 1))
    body = "".join(
        f'<tr><th scope="row" style="text-align: left">{number}. {escape(sentence)}</th>' + "".join(map(_cell, row)) + "</tr>"
        for number, (sentence, row) in enumerate(zip(result.sentences, result.cosines), 1)
    )
    best, i, j = result.pairs[0]
    worst, k, m = result.pairs[-1]
    return (
        f'<table cellpadding="6" style="text-align: right"><caption style="text-align: left; white-space: nowrap">'
        f"Cosines by {escape(result.model)}, {escape(result.pooling)} pooling</caption>"
        f'<thead><tr><th scope="col" style="text-align: left">sentence</th>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"<p>Most similar: {i + 1} and {j + 1} ({best:.2f}). Least similar: {k + 1} and {m + 1} ({worst:.2f}).</p>"
    )


def _cell(value: float) -> str:
    """White at 0 and below, dark blue at 1; the letters change to white where the ground is dark."""
    share = max(0.0, min(1.0, value))
    ground = ", ".join(str(round(255 - share * (255 - channel))) for channel in (8, 69, 148))
    return f'<td style="background: rgb({ground}); color: {"white" if share > 0.55 else "black"}">{value:.2f}</td>'


class SimilarityMap(Panel):
    """Type sentences, one a line; see the cosine of every two, by a model and a pooling that you choose."""

    title = "Similarity map"

    def __init__(self, sentences: Sequence[str]):
        lines = "\n".join([sentences] if isinstance(sentences, str) else sentences)
        rows = max(4, lines.count("\n") + 2)
        self.sentences = ipywidgets.Textarea(value=lines, description="Sentences", rows=rows, style=STYLE, layout=WIDE, continuous_update=False)
        self.model = ipywidgets.Dropdown(options=list(MODELS), value="bl.BERT", description="Model", style=STYLE)
        self.pooling = ipywidgets.Dropdown(options=list(POOLING), value="mean", description="Pooling", style=STYLE)
        super().__init__([self.sentences, self.model, self.pooling])

    def compute(self) -> Similarities:
        lines = [line.strip() for line in self.sentences.value.splitlines() if line.strip()]
        return compare_sentences(lines, self.model.value, self.pooling.value)

    def render(self, result: Similarities) -> str:
        return render_similarities(result)
