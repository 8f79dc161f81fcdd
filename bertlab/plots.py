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
from matplotlib.ticker import EngFormatter

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
    figure, ax = plt.subplots(figsize=(min(10, 1.6 + 0.62 * len(columns) + 0.08 * max(map(len, rows))), 1.3 + 0.36 * len(rows)))
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


def scatter(x: Sequence[float], y: Sequence[float], title: str, xlabel: str, ylabel: str, *, groups: Sequence[str] | None = None, line: float | None = None) -> Figure:
    """Points, with a colour and a marker for each group; a dotted line across at `line`."""
    figure, ax = plt.subplots()
    x, y, groups = np.asarray(x, dtype=float), np.asarray(y, dtype=float), list(groups or [""] * len(x))
    for i, group in enumerate(dict.fromkeys(groups)):
        mine = np.array([g == group for g in groups])
        ax.scatter(x[mine], y[mine], s=22, alpha=0.7, color=COLOURS[i % 6], marker=MARKERS[i % 6], label=group)
    if line is not None:
        ax.axhline(line, color="black", linestyle=":")
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if any(groups):
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def training_curves(log: Sequence[dict]) -> Figure:
    """Losses and held-out scores of a pretraining log, over tokens seen."""
    train = [r for r in log if r.get("event") == "train"]
    held = [r for r in log if r.get("event") == "evaluation" and "perplexity" in r]
    with_nsp = [r for r in held if r.get("nsp_accuracy") is not None]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot([r["tokens"] for r in train], [r["mlm_loss"] for r in train], color=COLOURS[0], alpha=0.5, label="MLM, training")
    left.plot([r["tokens"] for r in held], [r["mlm_loss"] for r in held], color=COLOURS[1], marker="o", label="MLM, held out")
    if with_nsp:
        left.plot([r["tokens"] for r in train], [r["nsp_loss"] for r in train], color=COLOURS[2], alpha=0.7, label="NSP, training")
        right.plot([r["tokens"] for r in with_nsp], [r["nsp_accuracy"] for r in with_nsp], color=COLOURS[2], marker="^", label="NSP accuracy")
    right.plot([r["tokens"] for r in held], [r["mlm_accuracy"] for r in held], color=COLOURS[0], marker="s", label="MLM accuracy")
    left.set(xlabel="tokens seen", ylabel="loss (nats)", title="Losses", ylim=(0, None))
    right.set(xlabel="tokens seen", ylabel="accuracy", title="Held-out accuracy", ylim=(0, 1))
    for ax in (left, right):
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.legend(frameon=False)
    return figure


def learning_lines(series: Mapping[str, Sequence[float]], moments: Sequence[float], title: str, xlabel: str, ylabel: str) -> Figure:
    """A line a series over common moments, such as accuracy by kind of question over tokens seen."""
    figure, ax = plt.subplots(figsize=(8, 3.8))
    for i, (name, values) in enumerate(series.items()):
        ax.plot(moments, values, label=name, color=COLOURS[i % 6], marker=MARKERS[i % 6], linestyle=["-", "--", "-.", ":"][i % 4])
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def guesses_table(rows: Sequence[Sequence[str]], columns: Sequence[str], title: str, right: Sequence[str]) -> Figure:
    """Words in a grid: a row a question (its first entry is the question), a column a moment; row i's answer right[i] is set off."""
    figure, ax = plt.subplots(figsize=(10, 0.9 + 0.36 * len(rows)))
    ax.axis("off")
    grid = ax.table([list(row) for row in rows], colLabels=list(columns), loc="center", cellLoc="left", edges="horizontal")
    grid.auto_set_font_size(False)
    grid.set_fontsize(9)
    grid.scale(1, 1.5)
    grid.auto_set_column_width(range(len(columns)))
    for (i, j), cell in grid.get_celld().items():
        if i > 0 and j > 0 and cell.get_text().get_text() == right[i - 1]:
            cell.get_text().set(color=COLOURS[0], weight="bold")
    ax.set_title(title)
    return figure


def intervals(scores: Mapping[str, tuple[float, float, float]], title: str, xlabel: str, *, line: float | None = None) -> Figure:
    """A point with its interval a row: {name: (value, low, high)}; `line` is a dotted mark to compare with, such as chance."""
    figure, ax = plt.subplots(figsize=(7, 1.1 + 0.38 * len(scores)))
    for row, (value, low, high) in enumerate(scores.values()):
        ax.plot([low, high], [row, row], color=COLOURS[0], linewidth=2)
        ax.plot(value, row, color=COLOURS[0], marker="o", markersize=7)
        ax.annotate(f"{value:.2f}", (high, row), xytext=(6, -3), textcoords="offset points", fontsize=9)
    if line is not None:
        ax.axvline(line, color="black", linestyle=":")
    ax.set(yticks=range(len(scores)), yticklabels=list(scores), xlabel=xlabel, title=title, ylim=(len(scores) - 0.5, -0.5))
    ax.margins(x=0.12)
    return figure


def runs(groups: Mapping[str, Mapping[str, Sequence[float]]], title: str, xlabel: str, *, line: float | None = None) -> Figure:
    """A point a run: {group: {name: values}}; a row a name, a colour and a marker a group, a short bar at the mean."""
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    figure, ax = plt.subplots(figsize=(7, 1.3 + 0.55 * len(names)))
    for i, (group, values) in enumerate(groups.items()):
        shift = (i - (len(groups) - 1) / 2) * 0.3
        for name, numbers in values.items():
            row = names.index(name) + shift
            ax.scatter(numbers, [row] * len(numbers), color=COLOURS[i], marker=MARKERS[i], s=40, alpha=0.7, label=group if name == next(iter(values)) else None)
            ax.plot([np.mean(numbers)] * 2, [row - 0.13, row + 0.13], color="black", linewidth=1.5)
    if line is not None:
        ax.axvline(line, color="black", linestyle=":")
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel=xlabel, title=title, ylim=(len(names) - 0.5, -0.5))
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def maps_2d(panels: Mapping[str, Sequence], groups: Sequence[str], title: str) -> Figure:
    """PCA maps side by side, one a set of vectors (N, H); the axes of each are its own. Groups as in `map_2d`."""
    from sklearn.decomposition import PCA

    figure, axes = plt.subplots(1, len(panels), figsize=(4.3 * len(panels), 4), squeeze=False)
    for ax, (name, vectors) in zip(axes[0], panels.items()):
        pca = PCA(2, svd_solver="full")
        points = pca.fit_transform(np.asarray(vectors, dtype=float))  # (N, 2)
        for i, group in enumerate(dict.fromkeys(groups)):
            mine = np.array([g == group for g in groups])
            ax.scatter(*points[mine].T, label=group, color=COLOURS[i % 6], marker=MARKERS[i % 6], s=22, alpha=0.6, linewidth=0)
        shares = pca.explained_variance_ratio_
        ax.set(title=name, xlabel=f"first component ({shares[0]:.0%} of the variance)", ylabel=f"second ({shares[1]:.0%})")
    figure.suptitle(title)
    axes[0][-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def passage_logits(tokens: Sequence[str], start: Sequence[float], end: Sequence[float], title: str, *, answer: tuple[int, int] | None = None, columns: int = 96) -> Figure:
    """A text in lines, a token's start value as a bar to the left above it and its end value to the right.

    tokens, start, end   one each a token; the lowest value of both has no height, the highest a full line's
    answer               first and last token to set off by a grey ground
    """
    low, high = min(*start, *end), max(*start, *end)
    lines = _lines(tokens, columns)
    figure, ax = plt.subplots(figsize=(10, 0.5 + 0.6 * len(lines)))
    for y, line in enumerate(lines):
        for x, i in line:
            middle = x + len(tokens[i]) / 2
            if answer and answer[0] <= i <= answer[1]:
                ax.add_patch(plt.Rectangle((x - 0.5, y + 0.02), len(tokens[i]) + 1, 0.33, color="#D9D9D9", linewidth=0))
            for values, left, colour in ((start, middle - 0.8, COLOURS[0]), (end, middle, COLOURS[1])):
                height = 0.6 * (values[i] - low) / max(high - low, 1e-9)
                ax.add_patch(plt.Rectangle((left, y - height), 0.8, height, color=colour, linewidth=0))
            ax.text(middle, y + 0.28, tokens[i], family="monospace", fontsize=10, ha="center")
    ax.set(xlim=(-1, columns + 1), ylim=(len(lines) - 0.6, -0.75), title=title)
    ax.axis("off")
    keys = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[i]) for i in (0, 1)]
    ax.legend(keys, ["start (left)", "end (right)"], frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.98))
    return figure


def tags_under_words(words: Sequence[str], rows: Mapping[str, Sequence[str]], title: str, *, columns: int = 84) -> Figure:
    """A sentence with rows of tags under its words: {row's name: a tag a word}; "O" is drawn as a dot."""
    kinds = [kind for kind in dict.fromkeys(tag.partition("-")[2] for tags in rows.values() for tag in tags) if kind]
    colour = {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(sorted(kinds))}
    cells = [max(len(word), *(len(tags[i]) for tags in rows.values())) * "x" for i, word in enumerate(words)]
    lines, margin = _lines(cells, columns), max(map(len, rows)) + 2
    figure, ax = plt.subplots(figsize=(10, 0.5 + 0.25 * (len(rows) + 1.6) * len(lines)))
    for n, line in enumerate(lines):
        top = n * (len(rows) + 1.6)
        for r, name in enumerate(rows, start=1):
            ax.text(-margin, top + r, name, family="monospace", fontsize=9, color="#555555")
        for x, i in line:
            ax.text(x, top, words[i], family="monospace", fontsize=9, weight="bold")
            for r, tags in enumerate(rows.values(), start=1):
                kind = tags[i].partition("-")[2]
                ax.text(x, top + r, tags[i] if kind else "·", family="monospace", fontsize=9, color=colour.get(kind, "#999999"))
    ax.set(xlim=(-margin - 1, columns + 1), ylim=((len(rows) + 1.6) * len(lines) - 0.6, -1), title=title)
    ax.axis("off")
    return figure


def _lines(tokens: Sequence[str], columns: int) -> list[list[tuple[int, int]]]:
    """Break tokens into lines of at most `columns` characters: lists of (column, token's number)."""
    lines: list[list[tuple[int, int]]] = [[]]
    x = 0
    for i, token in enumerate(tokens):
        if lines[-1] and x + len(token) > columns:
            lines.append([])
            x = 0
        lines[-1].append((x, i))
        x += len(token) + 1
    return lines


def scatter_panels(x: Sequence[float], ys: Mapping[str, Sequence[float]], title: str, xlabel: str, ylabel: str, *, groups: Sequence[str]) -> Figure:
    """Scatter plots side by side on common axes, {name: y values}; a colour and a marker for each group."""
    figure, axes = plt.subplots(1, len(ys), figsize=(3.6 * len(ys) + 1.6, 3.6), sharey=True, squeeze=False)
    x, groups = np.asarray(x, dtype=float), np.asarray(list(groups))
    for ax, (name, y) in zip(axes[0], ys.items()):
        for i, group in enumerate(dict.fromkeys(groups.tolist())):
            mine = groups == group
            ax.scatter(x[mine], np.asarray(y, dtype=float)[mine], s=16, alpha=0.6, color=COLOURS[i % 6], marker=MARKERS[i % 6], label=group)
        ax.set(title=name, xlabel=xlabel)
    axes[0][0].set_ylabel(ylabel)
    figure.suptitle(title)
    axes[0][-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def log_bars(values: Mapping[str, float], title: str, xlabel: str, labels: Sequence[str]) -> Figure:
    """Horizontal bars on a logarithmic axis, each with its label: for numbers of very different size."""
    figure, ax = plt.subplots(figsize=(7, 1.1 + 0.42 * len(values)))
    numbers = list(values.values())
    drawn = ax.barh(range(len(numbers)), numbers, color=[COLOURS[i % 2] for i in range(len(numbers))], hatch=[["", "//"][i % 2] for i in range(len(numbers))], edgecolor="white")
    ax.bar_label(drawn, labels=list(labels), padding=3)
    ax.set_xscale("log")
    ax.set(yticks=range(len(values)), yticklabels=list(values), xlabel=xlabel, title=title, xlim=(min(numbers) / 3, max(numbers) * 30))
    ax.invert_yaxis()
    return figure


def recall_against_time(series: Mapping[str, Sequence[tuple[float, float, object]]], title: str, xlabel: str) -> Figure:
    """A curve an index, a point a setting: {name: [(time, recall, setting)]}; time on a logarithmic axis."""
    figure, ax = plt.subplots(figsize=(7, 4))
    for i, (name, points) in enumerate(series.items()):
        times, recalls, settings = zip(*points)
        ax.plot(times, recalls, color=COLOURS[i % 6], marker=MARKERS[i % 6], label=name)
        for time, recall, setting in points:
            if setting is not None:
                ax.annotate(str(setting), (time, recall), xytext=(3, 5 if i % 2 else -11), textcoords="offset points", fontsize=7, color=COLOURS[i % 6])
    ax.set_xscale("log")
    ax.set(title=title, xlabel=xlabel, ylabel="recall against exact search")
    ax.legend(frameon=False, loc="lower right")
    return figure


def growth(n: Sequence[int], series: Mapping[str, Sequence[float]], title: str, xlabel: str, ylabel: str) -> Figure:
    """Lines on two logarithmic axes: how a cost grows with n."""
    figure, ax = plt.subplots()
    for i, (name, values) in enumerate(series.items()):
        ax.plot(n, values, color=COLOURS[i], marker=MARKERS[i], label=name)
    ax.set(xscale="log", yscale="log", title=title, xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
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
