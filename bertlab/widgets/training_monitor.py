"""TrainingMonitor: losses as they fall. Taught in notebooks/05_pretraining.ipynb; 06 to 08 use it too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import ipywidgets

from .panel import STYLE, Panel, table

CURVES = {  # what one can look at: (the record's event, its field); fine_tuning.fit's records have no event
    "MLM loss": ("train", "mlm_loss"),
    "NSP loss": ("train", "nsp_loss"),
    "held-out MLM loss": ("evaluation", "mlm_loss"),
    "held-out MLM accuracy": ("evaluation", "mlm_accuracy"),
    "held-out NSP accuracy": ("evaluation", "nsp_accuracy"),
    "fine-tuning loss": (None, "loss"),
}


@dataclass(frozen=True)
class Progress:
    """One curve of a training run.

    curve    its name, one of CURVES
    x        where each value was measured: tokens seen in pretraining, steps in fine-tuning
    values   the values, each the mean over the last `smoothing` ones
    latest   the last value of every curve that has one, not smoothed: (name, value) pairs
    share    how much of a fine-tuning is done (0 to 1); None in pretraining
    """

    curve: str
    smoothing: int
    x: tuple[int, ...]
    values: tuple[float, ...]
    latest: tuple[tuple[str, float], ...]
    share: float | None


def read_progress(records: Sequence[dict], curve: str = "MLM loss", smoothing: int = 1) -> Progress:
    """One curve from the records of `bertlab.pretrain`'s callback or of `fine_tuning.fit`'s.

    Raises ValueError for an unknown curve or a smoothing below 1.

    >>> records = [{"step": step, "loss": loss} for step, loss in enumerate((4.0, 2.0, 3.0), 1)]
    >>> read_progress(records, "fine-tuning loss", smoothing=2).values
    (4.0, 3.0, 2.5)
    """
    if curve not in CURVES:
        raise ValueError(f"There is no curve {curve!r}: choose from {', '.join(CURVES)}.")
    if smoothing < 1:
        raise ValueError(f"smoothing is a number of values, at least 1, not {smoothing}.")
    points = {name: _points(records, *where) for name, where in CURVES.items()}
    values = [value for _, value in points[curve]]
    windows = [values[max(0, i + 1 - smoothing) : i + 1] for i in range(len(values))]
    return Progress(
        curve,
        smoothing,
        tuple(x for x, _ in points[curve]),
        tuple(sum(window) / len(window) for window in windows),
        tuple((name, of[-1][1]) for name, of in points.items() if of),
        records[-1].get("share") if records else None,
    )


def _points(records: Sequence[dict], event: str | None, field: str) -> list[tuple[int, float]]:
    chosen = (r for r in records if r.get("event") == event and r.get(field) is not None)
    return [(r.get("tokens", r["step"]), r[field]) for r in chosen]


def render_progress(result: Progress) -> str:
    """Progress -> escaped HTML: the curve as a drawing with its range in words, and the latest of every curve."""
    if not result.values:
        body = f"<p>No value for {escape(result.curve)} yet.</p>"
    else:
        first, last = result.values[0], result.values[-1]
        words = f"{result.curve}: from {first:.2f} to {last:.2f}, lowest {min(result.values):.2f}, highest {max(result.values):.2f}"
        body = f"<p>{escape(words)} ({len(result.values)} values).</p>{_drawing(result, words)}"
    done = "" if result.share is None else f"<p>{result.share:.0%} done.</p>"
    rows = [[name, f"{value:.2f}"] for name, value in result.latest]
    return body + done + (table(["curve", "latest"], rows, "The latest of each curve") if rows else "")


def _drawing(result: Progress, words: str, width: int = 480, height: int = 120) -> str:
    """An SVG line; at most 200 points, the ends always among them."""
    count = len(result.values)
    kept = sorted({round(i * (count - 1) / 199) for i in range(200)}) if count > 200 else range(count)
    low, high = min(result.values), max(result.values)
    left, right = result.x[0], result.x[-1]
    points = " ".join(
        f"{5 + (width - 10) * (result.x[i] - left) / ((right - left) or 1):.0f},{5 + (height - 10) * (high - result.values[i]) / ((high - low) or 1):.0f}"
        for i in kept
    )
    return (
        f'<svg role="img" aria-label="{escape(words)}" width="{width}" height="{height}" style="max-width: 100%">'
        f'<rect width="{width}" height="{height}" fill="none" stroke="#999999"/>'
        f'<polyline points="{points}" fill="none" stroke="#0072B2" stroke-width="2"/></svg>'
    )


class TrainingMonitor(Panel):
    """Watch a training: pass `callback=monitor.record`, then choose the curve and how many values to average."""

    title = "Training monitor"

    def __init__(self, curve: str = "MLM loss", smoothing: int = 1):
        self.records: list[dict] = []
        self.curve = ipywidgets.Dropdown(options=list(CURVES), value=curve, description="Curve", style=STYLE)
        self.smoothing = ipywidgets.BoundedIntText(value=smoothing, min=1, max=100, description="Average over", style=STYLE)
        super().__init__([self.curve, self.smoothing])

    def record(self, record: dict) -> None:
        """Take one record and draw again: this is the callback."""
        self.records.append(record)
        self._changed()

    def clear(self) -> None:
        """Forget the records of an earlier run."""
        self.records.clear()
        self._changed()

    def state(self) -> tuple:
        return (*super().state(), len(self.records))

    def compute(self) -> Progress:
        return read_progress(self.records, self.curve.value, self.smoothing.value)

    def render(self, result: Progress) -> str:
        return render_progress(result)
