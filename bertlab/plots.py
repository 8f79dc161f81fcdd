"""One figure a function. Each takes results, never a model, and returns a matplotlib Figure.

A notebook shows a figure with `bl.plots.show(figure, alt="what one sees")`: the PNG carries the alt text,
and the alt text stands in the page where no picture can be seen.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe & Ito: safe for colour-blind readers
MARKERS = ["o", "s", "^", "D", "v", "P"]


class Shown:
    """A picture with its alt text, as a notebook cell's value."""

    def __init__(self, figure: Figure, alt: str):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)
        self._png, self.alt = base64.b64encode(buffer.getvalue()).decode(), alt

    def __repr__(self) -> str:
        return f"<Figure: {self.alt}>"

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"image/png": self._png, "text/plain": repr(self)}, {"image/png": {"alt": self.alt}}


def show(figure: Figure, alt: str) -> Shown:
    """Turn a figure into a cell's value; alt says in words what one sees, and is required."""
    if not alt.strip():
        raise ValueError("A figure needs alt text: say in a sentence what one sees in it.")
    return Shown(figure, alt.strip())


def bars(values: Mapping[str, float], title: str, xlabel: str, *, mark: str | None = None, limit: tuple[float, float] | None = None) -> Figure:
    """Horizontal bars, one a name, with the number written at each; `mark` names the bar to set off."""
    figure, ax = plt.subplots(figsize=(7, 0.9 + 0.32 * len(values)))
    names, numbers = list(values), list(values.values())
    colours = [COLOURS[1] if name == mark else COLOURS[0] for name in names]
    drawn = ax.barh(range(len(names)), numbers, color=colours, hatch=["//" if name == mark else "" for name in names], edgecolor="white")
    ax.bar_label(drawn, fmt="%.2f", padding=3)
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel=xlabel, title=title)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    if limit:
        ax.set_xlim(*limit)
    return figure


def grouped_bars(groups: Mapping[str, Mapping[str, float]], title: str, ylabel: str) -> Figure:
    """Bars side by side: {series: {name: value}}, every series with the same names."""
    figure, ax = plt.subplots()
    names = list(next(iter(groups.values())))
    width = 0.8 / len(groups)
    for i, (series, values) in enumerate(groups.items()):
        at = np.arange(len(names)) + (i - (len(groups) - 1) / 2) * width
        drawn = ax.bar(at, [values[n] for n in names], width, label=series, color=COLOURS[i], hatch=["", "//", "..", "xx"][i % 4], edgecolor="white")
        ax.bar_label(drawn, fmt="%.2f", fontsize=8)
    ax.margins(y=0.12)
    ax.set(xticks=range(len(names)), xticklabels=names, ylabel=ylabel, title=title)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def heatmap(values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], title: str, *, fmt: str = "{:.2f}", label: str = "") -> Figure:
    """A table of numbers in shades, each number written in its cell (up to 14 columns)."""
    matrix = np.asarray(values, dtype=float)  # (rows, columns)
    figure, ax = plt.subplots(figsize=(min(10, 2.2 + 0.62 * len(columns)), 1.3 + 0.36 * len(rows)))
    image = ax.imshow(matrix, cmap="Blues", aspect="auto")
    ax.set_xticks(range(len(columns)), columns, rotation=45 if max(map(len, columns)) > 4 else 0, ha="right" if max(map(len, columns)) > 4 else "center")
    ax.set_yticks(range(len(rows)), rows)
    ax.set_title(title)
    ax.spines[:].set_visible(False)
    if len(columns) <= 14:
        dark = matrix.min() + 0.62 * (matrix.max() - matrix.min())  # white letters from here on
        for i, j in np.ndindex(*matrix.shape):
            ax.text(j, i, fmt.format(matrix[i, j]), ha="center", va="center", fontsize=8, color="white" if matrix[i, j] > dark else "black")
    figure.colorbar(image, ax=ax, label=label)
    return figure


def map_2d(vectors, groups: Sequence[str], title: str, *, labels: Sequence[str] | None = None) -> Figure:
    """Vectors (N, H) flattened to two dimensions by PCA; a colour and a marker for each group."""
    from sklearn.decomposition import PCA

    points = PCA(2, svd_solver="full").fit_transform(np.asarray(vectors, dtype=float))  # (N, 2)
    figure, ax = plt.subplots(figsize=(7, 4.5))
    for i, group in enumerate(dict.fromkeys(groups)):
        mine = np.array([g == group for g in groups])
        ax.scatter(*points[mine].T, label=group, color=COLOURS[i % 6], marker=MARKERS[i % 6], s=45, alpha=0.85, edgecolor="white")
    for point, label in zip(points, labels or []):
        ax.annotate(label, point, xytext=(4, 4), textcoords="offset points", fontsize=7)
    ax.set(title=title, xlabel="first principal component", ylabel="second")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def histograms(series: Mapping[str, Sequence[float]], title: str, xlabel: str) -> Figure:
    """Outlined histograms over one another, one a series, on common bins."""
    figure, ax = plt.subplots()
    everything = np.concatenate([np.asarray(v, dtype=float) for v in series.values()])
    bins = np.linspace(everything.min(), everything.max(), 31)
    for i, (name, values) in enumerate(series.items()):
        ax.hist(np.asarray(values, dtype=float), bins, histtype="step", linewidth=2, color=COLOURS[i], linestyle=["-", "--", "-.", ":"][i % 4], label=name)
    ax.set(title=title, xlabel=xlabel, ylabel="how many")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def scatter(x: Sequence[float], y: Sequence[float], title: str, xlabel: str, ylabel: str, *, groups: Sequence[str] | None = None) -> Figure:
    """Points, with a colour and a marker for each group."""
    figure, ax = plt.subplots()
    x, y, groups = np.asarray(x, dtype=float), np.asarray(y, dtype=float), list(groups or [""] * len(x))
    for i, group in enumerate(dict.fromkeys(groups)):
        mine = np.array([g == group for g in groups])
        ax.scatter(x[mine], y[mine], s=22, alpha=0.7, color=COLOURS[i % 6], marker=MARKERS[i % 6], label=group)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if any(groups):
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def training_curves(log: Sequence[dict]) -> Figure:
    """Losses and held-out scores of a pretraining log, over tokens seen."""
    train = [r for r in log if r.get("event") == "train"]
    held = [r for r in log if r.get("event") == "evaluation" and "perplexity" in r]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
    left.plot([r["tokens"] for r in train], [r["mlm_loss"] for r in train], color=COLOURS[0], alpha=0.5, label="MLM, training")
    left.plot([r["tokens"] for r in held], [r["mlm_loss"] for r in held], color=COLOURS[1], marker="o", label="MLM, held out")
    left.set(xlabel="tokens seen", ylabel="loss (nats a masked token)", title="Masked-language modelling")
    right.plot([r["tokens"] for r in held], [r["mlm_accuracy"] for r in held], color=COLOURS[0], marker="s", label="MLM accuracy")
    if any(r.get("nsp_accuracy") is not None for r in held):
        right.plot([r["tokens"] for r in held], [r["nsp_accuracy"] for r in held], color=COLOURS[2], marker="^", label="NSP accuracy")
    right.set(xlabel="tokens seen", ylabel="accuracy", title="Held-out accuracy", ylim=(0, 1))
    for ax in (left, right):
        ax.legend(frameon=False)
    return figure


def threshold_curves(thresholds: Sequence[float], curves: Mapping[str, Sequence[float]], chosen: float, title: str) -> Figure:
    """Shares (0 to 1) over a threshold, one line each, and a vertical line at the chosen one."""
    figure, ax = plt.subplots()
    for i, (name, shares) in enumerate(curves.items()):
        ax.plot(thresholds, shares, color=COLOURS[i % 6], linestyle=["-", "--", "-.", ":"][i % 4], marker=MARKERS[i % 6], markevery=10, markersize=5, label=name)
    ax.axvline(chosen, color="black", linewidth=1)
    ax.annotate(f"chosen: {chosen:.2f}", (chosen, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=9)
    ax.set(xlabel="threshold on the best cosine", ylabel="share", ylim=(-0.02, 1.02))
    ax.set_title(title, pad=18)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
