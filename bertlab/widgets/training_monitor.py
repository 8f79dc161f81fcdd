"""TrainingMonitor: losses and guesses of a training while it runs. Taught in notebooks/05_pretraining.ipynb; 06 to 08 use it too."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import ipywidgets

from .panel import STYLE, Panel, bar, table

CURVES = {  # what one can look at: (the record's event, its field); fine_tuning.fit's records have no event
    "MLM loss": ("train", "mlm_loss"),
    "NSP loss": ("train", "nsp_loss"),
    "held-out MLM loss": ("evaluation", "mlm_loss"),
    "held-out MLM accuracy": ("evaluation", "mlm_accuracy"),
    "held-out NSP accuracy": ("evaluation", "nsp_accuracy"),
    "fine-tuning loss": (None, "loss"),
}


PAUSE = 0.4  # seconds between two drawings while a cell runs; longer if drawing takes more than a twentieth of it


@dataclass(frozen=True)
class Progress:
    """One curve of a training run, and how far the run has come.

    curve         its name, one of CURVES
    x             where each value was measured: tokens seen in pretraining, steps in fine-tuning
    values        the values, each the mean over the last `smoothing` ones
    latest        the last value of every curve that has one, not smoothed: (name, value) pairs
    share         how much of the run is done (0 to 1); None if the records do not say
    seconds_left  what the rest will take at the speed so far; None if the records do not say
    ended         "" while it runs, "done", or "stopped"
    guesses       (sentence with [MASK], ((where, best word pieces), ...)) at the first, the middle and the last evaluation
    """

    curve: str
    smoothing: int
    x: tuple[int, ...]
    values: tuple[float, ...]
    latest: tuple[tuple[str, float], ...]
    share: float | None
    seconds_left: float | None
    ended: str
    guesses: tuple[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], ...]


def read_progress(records: Sequence[dict], curve: str = "MLM loss", smoothing: int = 1, stopped: bool = False) -> Progress:
    """One curve from the records of `bertlab.pretrain`'s callback or of `fine_tuning.fit`'s.

    stopped  whether the run was ended before its time, if the records do not say so themselves
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
    last = records[-1] if records else {}
    share = last.get("share")
    stopped = stopped or last.get("event") == "stopped"
    return Progress(
        curve,
        smoothing,
        tuple(x for x, _ in points[curve]),
        tuple(sum(window) / len(window) for window in windows),
        tuple((name, of[-1][1]) for name, of in points.items() if of),
        share,
        _seconds_left(records),
        "done" if share == 1 else "stopped" if stopped else "",
        _guesses(records),
    )


def _points(records: Sequence[dict], event: str | None, field: str) -> list[tuple[int, float]]:
    chosen = (r for r in records if r.get("event") == event and r.get(field) is not None)
    return [(r.get("tokens", r["step"]), r[field]) for r in chosen]


def _seconds_left(records: Sequence[dict]) -> float | None:
    """fit says it; pretrain says its speed, in tokens a second."""
    last = records[-1] if records else {}
    if "seconds_left" in last:
        return last["seconds_left"]
    speed = next((r["tokens_per_second"] for r in reversed(records) if r.get("tokens_per_second")), None)
    known = speed and last.get("share") and "tokens" in last  # a page may hold the records of both
    return last["tokens"] * (1 / last["share"] - 1) / speed if known else None


def _guesses(records: Sequence[dict]) -> tuple:
    looks = [(f"{r['share']:.0%}" if "share" in r else f"step {r['step']}", r["samples"]) for r in records if r.get("samples")]
    kept = [looks[i] for i in sorted({0, len(looks) // 2, len(looks) - 1})] if looks else []
    sentences = kept[-1][1] if kept else ()
    return tuple((text, tuple((where, tuple(samples.get(text, ())[:3])) for where, samples in kept)) for text in sentences)


def in_words(seconds: float) -> str:
    """A time as one says it.

    >>> [in_words(seconds) for seconds in (4, 42, 100, 9000)]
    ['a few seconds', 'about 40 seconds', 'about 2 minutes', 'about 2.5 hours']
    """
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} seconds"
    return f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"


# ---------------------------------------------------------------- rendering


def render_progress(result: Progress) -> str:
    """Progress -> escaped HTML: how far, the curve as a drawing with its range in words, the latest of every curve, the guesses."""
    if not result.values:
        body = f"<p>No value for {escape(result.curve)} yet.</p>"
    else:
        first, last = result.values[0], result.values[-1]
        words = f"{result.curve}: from {first:.2f} to {last:.2f}, lowest {min(result.values):.2f}, highest {max(result.values):.2f}"
        body = f"<p>{escape(words)} ({len(result.values)} values).</p>{_drawing(result, words)}"
    rows = [[name, f"{value:.2f}"] for name, value in result.latest]
    latest = table(["curve", "latest"], rows, "The latest of each curve") if rows else ""
    return _how_far(result) + body + latest + _guess_table(result)


def _how_far(result: Progress) -> str:
    """A bar, and the same in words."""
    if result.share is None:
        return f"<p>{result.ended.capitalize()}.</p>" if result.ended else ""
    words = f"{result.share:.0%} done"
    if result.ended == "stopped":
        words = f"Stopped when {words}"
    elif not result.ended and result.seconds_left is not None:
        words += f", {in_words(result.seconds_left)} left"
    return (
        f'<p><span role="progressbar" aria-label="Training" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{100 * result.share:.0f}" '
        f'aria-valuetext="{words}">{bar(result.share, 30)}</span> {words}.</p>'
    )


def _guess_table(result: Progress) -> str:
    if not result.guesses:
        return ""
    rows = [[text, *(", ".join(pieces) for _, pieces in looks)] for text, looks in result.guesses]
    return table(["sentence", *(f"at {where}" for where, _ in result.guesses[0][1])], rows, "The model's guesses for [MASK], the best first")


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
        f'<svg role="img" aria-label="{escape(words)}" viewBox="0 0 {width} {height}" style="width: {width / 14:.1f}em; max-width: 100%" fill="none" stroke="currentColor">'
        f'<rect width="{width}" height="{height}" stroke-opacity="0.4"/><polyline points="{points}" stroke-width="2"/></svg>'
    )


class TrainingMonitor(Panel):
    """Watch a training: pass `callback=monitor.record`, then choose the curve and how many values to average.

    While a cell runs it draws a few times a second at most, and at the end of the cell; read from Python, `result` and
    `html` are always of the last record. A record with a smaller step than the one before begins a new run.

    Stop ends the run at its next record: `record` returns False, and the loop saves and leaves a usable model. The button is
    there while a run can hear it: the front end must send its messages over a subshell of the kernel (JupyterLab 4.4 and
    ipykernel 7, or newer), because the kernel's main thread is busy. Elsewhere the panel says how to interrupt instead.
    """

    title = "Training monitor"
    live = "off"

    def __init__(self, curve: str = "MLM loss", smoothing: int = 1):
        self.records: list[dict] = []
        self._lock = threading.RLock()  # a subshell is a thread: while a cell runs, a control's change comes from there
        self._stale = self._live = self._asked = self._stopped = False
        self._next = 0.0  # when to draw again
        self.curve = ipywidgets.Dropdown(options=list(CURVES), value=curve, description="Curve", style=STYLE)
        self.smoothing = ipywidgets.BoundedIntText(value=smoothing, min=1, max=100, description="Average over", style=STYLE)
        self.stop = ipywidgets.Button(description="Stop the training", icon="stop", layout=ipywidgets.Layout(width="auto", align_self="flex-start", display="none"))
        self.stop.on_click(self._ask)
        self._note = ipywidgets.HTML()
        super().__init__([self.curve, self.smoothing], [self.curve, self.smoothing, self.stop, self._note])

    @property
    def result(self) -> Progress | None:
        self._catch_up()
        return self._result

    @result.setter
    def result(self, result: Progress | None) -> None:
        self._result = result

    @property
    def html(self) -> str:
        self._catch_up()
        return super().html

    def record(self, record: dict) -> bool | None:
        """Take one record: this is the callback. False, which ends the run, once Stop was pressed."""
        if self.records and record["step"] < self.records[-1]["step"]:
            self.clear()
        self.records.append(record)
        self._stale = True
        if not self._live:
            self._begin()
        self._hear()
        if stop := self._asked:
            self._asked, self._stopped = False, True
        if not self._live or stop or record.get("share") == 1 or time.monotonic() > self._next:
            self._catch_up()
            self._offer()
        return False if stop else None

    def clear(self) -> None:
        """Forget the records of an earlier run."""
        self.records.clear()
        self._stopped = False
        self._changed()

    def compute(self) -> Progress:
        return read_progress(self.records, self.curve.value, self.smoothing.value, self._stopped)

    def render(self, result: Progress) -> str:
        return render_progress(result)

    def _changed(self, change=None) -> None:
        with self._lock:
            began, self._stale = time.monotonic(), False
            self._show(*self._answer())
            ended = time.monotonic()
            self._next = ended + max(PAUSE, 20 * (ended - began))

    def _catch_up(self) -> None:
        if self._stale:
            self._changed()

    # ------------------------------------------------------------ while a cell runs

    def _begin(self) -> None:
        """The first record of a cell, if there is a notebook: it lives until the cell ends."""
        from IPython import get_ipython

        if (shell := get_ipython()) is not None and hasattr(shell, "kernel"):
            self._live, self._stopped, self._next = True, False, 0.0
            shell.events.register("post_run_cell", self._end)

    def _offer(self) -> None:
        """A way to stop: the button as soon as there is somebody to hear it, else words."""
        if not self._live or self._stopped:
            return
        heard = _has_subshell()
        self.stop.layout.display, self.stop.disabled = "" if heard else "none", False
        how = "Stop ends the run at its next record. Interrupting the kernel does the same." if heard else "To stop, interrupt the kernel (in JupyterLab the square button)."
        self._say(f"{how} The model stays usable.")

    def _end(self, _=None) -> None:
        from IPython import get_ipython

        get_ipython().events.unregister("post_run_cell", self._end)
        self._live = self._asked = False
        last = self.records[-1].get("share") if self.records else None
        self._stopped = self._stopped or (last is not None and last < 1)
        self.stop.layout.display = "none"
        self._say({"done": "The training is done.", "stopped": "The training was stopped."}.get(self.result.ended, ""))
        self._changed()

    def _hear(self) -> None:
        """Let the controls' messages reach a subshell: ipykernel 7.4 sends them to the thread that last wrote to them, which is busy."""
        for control in (self.stop, self.curve, self.smoothing):
            if self._live and control.comm:
                vars(control.comm).pop("_reply_subshell_id", None)

    def _ask(self, _) -> None:
        if not self._live:
            return
        self._asked = self.stop.disabled = self._stopped = True
        self._say("Stopping at the next record …")

    def _say(self, words: str) -> None:
        self._note.value = f'<div class="bertlab-panel" role="status">{words}</div>'


def _has_subshell() -> bool:
    """Whether the front end talks to a thread of the kernel that is not busy with the cell."""
    from IPython import get_ipython

    channel = getattr(get_ipython().kernel, "shell_channel_thread", None)
    return bool(channel and channel.manager.list_subshell())
