"""SimilarityMap: how alike are some sentences, for a model and a pooling? Taught in notebooks/08_sentence_bert.ipynb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import ipywidgets

from ..checkpoints import resolve
from ..sbert import flat_map, sentence_vectors
from ..tokens import check_text
from .panel import STYLE, WIDE, Panel, bar, heat_table, table

MODELS = {"bl.BERT": "BERT", "bl.SBERT": "SBERT"}
BOTH = "both"
POOLING = ("mean", "cls", "max")
MOST = 12  # sentences


@dataclass(frozen=True)
class Similarities:
    """The cosines of some sentences: cosines[i][j] compares sentence i with sentence j, from -1 to 1.

    points   where each sentence lies on the map: (across, up), by PCA of the vectors at length 1
    shares   how much of the variance each axis of the map shows, 0 to 1
    """

    sentences: tuple[str, ...]
    model: str
    pooling: str
    cosines: tuple[tuple[float, ...], ...]
    points: tuple[tuple[float, float], ...]
    shares: tuple[float, float]

    @property
    def pairs(self) -> list[tuple[float, int, int]]:
        """(cosine, i, j) of every two sentences, the most similar first."""
        n = len(self.sentences)
        return sorted(((self.cosines[i][j], i, j) for i in range(n) for j in range(i + 1, n)), reverse=True)

    @property
    def average(self) -> float:
        """The mean cosine of two different sentences."""
        return sum(cosine for cosine, _, _ in self.pairs) / len(self.pairs)

    def neighbours(self, chosen: int) -> list[tuple[float, int]]:
        """(cosine, j) of every other sentence, the nearest to sentence `chosen` first."""
        return sorted(((c, j) for j, c in enumerate(self.cosines[chosen]) if j != chosen), reverse=True)


@dataclass(frozen=True)
class Compared:
    """What the panel shows: the similarities by each model, and the sentence (0 = first) whose neighbours are listed."""

    by: tuple[Similarities, ...]
    chosen: int

    @property
    def pairs(self) -> list[tuple[float, int, int]]:
        """The pairs by the first model shown."""
        return self.by[0].pairs


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
    cosines = (unit @ unit.T).clamp(-1, 1).tolist()  # (N, N)
    points, shares = flat_map(unit)
    return Similarities(
        tuple(texts),
        model,
        pooling,
        tuple(tuple(round(c, 4) for c in row) for row in cosines),
        tuple((round(x, 4), round(y, 4)) for x, y in points.tolist()),
        shares,
    )


# ---------------------------------------------------------------- rendering


def render_similarities(result: Similarities, chosen: int = 0) -> str:
    """Similarities -> escaped HTML: the cosines beside the map, the nearest and the farthest pair, the neighbours of one sentence."""
    names = numbered(result.sentences)
    rows = [(clip(name, 60), row) for name, row in zip(names, result.cosines)]
    matrix = heat_table([str(number) for number in range(1, len(names) + 1)], rows, f"Cosines by {result.model}, {result.pooling} pooling", "sentence")
    (best, i, j), (worst, k, m) = result.pairs[0], result.pairs[-1]
    words = f"Most similar: {i + 1} and {j + 1} ({best:.2f}). Least similar: {k + 1} and {m + 1} ({worst:.2f}). On average: {result.average:.2f}."
    near = [[clip(names[j], 60), f"{cosine:.2f}", bar(cosine, 10)] for cosine, j in result.neighbours(chosen)]
    return (
        f'<div style="display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start"><div>{matrix}<p>{escape(words)}</p></div>{_drawing(result)}</div>'
        + table(["sentence", "cosine", ""], near, f"Nearest to sentence {chosen + 1} by {result.model}, {result.pooling} pooling")
    )


def render_compared(result: Compared) -> str:
    """Compared -> escaped HTML, one block a model."""
    return "<hr>".join(render_similarities(one, result.chosen) for one in result.by)


def numbered(sentences: Sequence[str]) -> list[str]:
    """The sentences with their numbers in front, as the panel names them everywhere.

    >>> numbered(["It rained.", "Rain fell."])
    ['1. It rained.', '2. Rain fell.']
    """
    return [f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1)]


def clip(text: str, most: int) -> str:
    """At most `most` characters of a text.

    >>> clip("The dog bit the postman.", 12)
    'The dog bit…'
    """
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


WIDTH, HEIGHT, EDGE, LETTER, LINE = 480, 300, 24, 8.0, 16  # the map's units: 14 of them are one em


def _drawing(result: Similarities) -> str:
    """The map as SVG: both axes have the same scale, so distances can be compared; labels keep clear of each other."""
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*result.points))
    scale = min((WIDTH - 2 * EDGE) / ((right - left) or 1), (HEIGHT - 2 * EDGE) / ((high - low) or 1))
    at = [(round(WIDTH / 2 + scale * (x - (left + right) / 2)), round(HEIGHT / 2 - scale * (y - (low + high) / 2))) for x, y in result.points]
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="4"/>' for x, y in at)
    labels = "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>' for text, x, y, anchor in place_labels(at, result.sentences))
    across, up = (f"{share:.0%}" for share in result.shares)
    best, i, j = result.pairs[0]
    words = f"Map of {len(at)} sentences by {result.model}, {result.pooling} pooling. Most similar: {i + 1} and {j + 1}. The axes show {across} and {up} of the variance."
    return (
        f'<figure style="margin: 0; max-width: 100%"><svg role="img" aria-label="{escape(words)}" viewBox="0 0 {WIDTH} {HEIGHT}" fill="currentColor" font-size="14" '
        f'style="width: {WIDTH / 14:.1f}em; max-width: 100%"><rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="currentColor" stroke-opacity="0.4"/>{dots}{labels}</svg>'
        f"<figcaption>Map by PCA: {across} of the variance lies across, {up} upwards.</figcaption></figure>"
    )


def place_labels(at: Sequence[tuple[int, int]], sentences: Sequence[str]) -> list[tuple[str, int, int, str]]:
    """(text, x, y, anchor) for each point: the first place beside it that is free, with less and less text; at last the number alone.

    >>> [(text, anchor) for text, _, _, anchor in place_labels([(40, 150), (440, 150)], ["It rained.", "Rain fell."])]
    [('1 It rained.', 'start'), ('2 Rain fell.', 'end')]
    """
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in at]
    placed = []
    for number, ((x, y), sentence) in enumerate(zip(at, sentences), 1):
        texts = [f"{number} {clip(sentence, room)}" for room in (24, 14)] + [str(number)]
        spots = [(text, x + dx, y + dy, anchor) for text in texts for dx, dy, anchor in _BESIDE]
        spot = next((s for s in spots if _free(_box(*s), taken)), spots[-len(_BESIDE)])
        taken.append(_box(*spot))
        placed.append(spot)
    return placed


_BESIDE = [(8, 5, "start"), (-8, 5, "end"), (0, -9, "middle"), (0, 20, "middle"), (6, -9, "start"), (6, 20, "start"), (-6, -9, "end"), (-6, 20, "end")]


def _box(text: str, x: int, y: int, anchor: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a label; letters of other scripts may be twice as wide."""
    width = LETTER * sum(1 if ord(letter) < 0x1100 else 2 for letter in text)
    left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
    return left, y - LINE + 4, left + width, y + 4


def _free(box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]) -> bool:
    left, top, right, bottom = box
    inside = left >= 2 and right <= WIDTH - 2 and top >= 2 and bottom <= HEIGHT - 2
    return inside and not any(left < r and right > l and top < b and bottom > t for l, t, r, b in taken)


class SimilarityMap(Panel):
    """Type sentences, one a line: the cosine of every two, a map, and the nearest neighbours of one, by a model and a pooling."""

    title = "Similarity map"

    def __init__(self, sentences: Sequence[str]):
        lines = "\n".join([sentences] if isinstance(sentences, str) else sentences)
        rows = max(4, lines.count("\n") + 2)
        self.sentences = ipywidgets.Textarea(value=lines, description="Sentences", rows=rows, style=STYLE, layout=WIDE, continuous_update=False)
        self.model = ipywidgets.Dropdown(options=[*MODELS, BOTH], value="bl.BERT", description="Model", style=STYLE)
        self.pooling = ipywidgets.Dropdown(options=list(POOLING), value="mean", description="Pooling", style=STYLE)
        self.chosen = ipywidgets.Dropdown(options=self._names(), description="Neighbours of", style=STYLE, layout=WIDE)
        super().__init__([self.sentences, self.model, self.pooling, self.chosen])

    def _lines(self) -> list[str]:
        return [line.strip() for line in self.sentences.value.splitlines() if line.strip()]

    def _names(self) -> list[str]:
        return [clip(name, 60) for name in numbered(self._lines())][:MOST]

    def _changed(self, change=None) -> None:
        if change and change["owner"] is self.sentences:
            at, names = self.chosen.index or 0, self._names()
            with self.together():
                self.chosen.options = names
                self.chosen.index = min(at, len(names) - 1) if names else None
        else:
            super()._changed(change)

    def compute(self) -> Compared:
        models = list(MODELS) if self.model.value == BOTH else [self.model.value]
        return Compared(tuple(compare_sentences(self._lines(), model, self.pooling.value) for model in models), self.chosen.index or 0)

    def render(self, result: Compared) -> str:
        return render_compared(result)
