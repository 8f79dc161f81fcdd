"""`bertlab bench`: how fast the course is beside what one would use otherwise.

Every figure is a ratio of two things that were measured by turns in one run, so that what else the machine does falls on both.
Each part is a module of this package with `rows(options)`, which gives a Row for every line of the table.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path

PARTS = ("start", "panel", "encoding", "pretraining", "memory", "growth", "suite")


@dataclass(frozen=True)
class Options:
    """What a part is told.

    quick    a tiny version, which shows that everything runs; its figures mean nothing
    rounds   how often each side is measured; 0: the part's own number
    threads  of torch, for both sides; 0: as many as the machine has cores
    """

    quick: bool = False
    rounds: int = 0
    threads: int = 0

    def rounds_or(self, usual: int) -> int:
        return 2 if self.quick else self.rounds or usual

    @property
    def cores(self) -> int:
        return self.threads or os.cpu_count() or 1


@dataclass(frozen=True)
class Row:
    """A line of the table: one ratio, or a figure that has no peer.

    part    "start"
    what    what is compared, with the unit: "first MLM prediction, bertlab / pipeline, seconds"
    value   the median over the rounds (a ratio where there is a peer), None where it could not be measured: `note` then says why
    low     the lower quartile of the rounds
    high    the upper quartile
    rounds  how often
    at_least, at_most  the bar, if there is one
    sides   what was measured on each side: medians with the unit in the name, {"bertlab_s": 4.1, "pipeline_s": 4.4}
    note    what a reader has to know
    """

    part: str
    what: str
    value: float | None
    low: float | None = None
    high: float | None = None
    rounds: int = 1
    at_least: float | None = None
    at_most: float | None = None
    sides: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar or without a value."""
        if self.value is None or (self.at_least is None and self.at_most is None):
            return None
        return (self.at_least is None or self.value >= self.at_least) and (self.at_most is None or self.value <= self.at_most)


def interleave(sides: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1, seed: int = 0) -> dict[str, list[float]]:
    """Seconds of each side in each round; the sides take turns, in a new order each time. A side that returns a float measured itself.

    >>> sorted(interleave({"a": lambda: 2.0, "b": lambda: 4.0}, rounds=3).items())
    [('a', [2.0, 2.0, 2.0]), ('b', [4.0, 4.0, 4.0])]
    """
    draw, times = random.Random(seed), {name: [] for name in sides}
    for number in range(-warm_up, rounds):
        for name in draw.sample(list(sides), len(sides)):
            began = time.perf_counter()
            own = sides[name]()
            took = own if isinstance(own, float) else time.perf_counter() - began
            if number >= 0:
                times[name].append(took)
    return times


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """(lower quartile, median, upper quartile)

    >>> quartiles([1.0, 2.0, 3.0])
    (1.5, 2.0, 2.5)
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio(part: str, what: str, above: Sequence[float], below: Sequence[float], **more) -> Row:
    """The Row of above / below, divided round by round.

    >>> row = ratio("start", "a / b, seconds", [2.0, 2.0, 2.0], [1.0, 2.0, 4.0], at_most=1.0)
    >>> row.value, row.met
    (1.0, True)
    """
    low, middle, high = quartiles([a / b for a, b in zip(above, below, strict=True)])
    return Row(part, what, middle, low, high, len(above), **more)


def environment(without: tuple[str, ...] = ("BERTLAB_",), **own: str) -> dict[str, str]:
    """For another process with this very package and the bundled weights: variables that begin so are left out, `own` ones are added."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    package = str(Path(__file__).resolve().parents[2])
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])), **own}


def run(parts: Iterable[str], options: Options) -> Iterator[Row]:
    """The rows of these parts, one by one, as soon as they are measured."""
    for part in parts:
        yield from import_module(f".{part}", __name__).rows(options)


def machine(options: Options) -> dict:
    """What the figures were measured on."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": options.cores,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "quick": options.quick,
    }


def line(row: Row) -> str:
    """A row as text.

    >>> print(line(Row("start", "a / b, seconds", 0.93, 0.9, 0.95, 5, at_most=1.0, sides={"a_s": 4.1})))
    start        0.93 [0.90 to 0.95]  met      at most 1      a / b, seconds (a_s 4.1; 5 rounds)
    """
    value = "not measured" if row.value is None else f"{row.value:.4g}" if row.low is None else f"{row.value:.2f} [{row.low:.2f} to {row.high:.2f}]"
    bar = " ".join(f"{name} {of:g}" for name, of in (("at least", row.at_least), ("at most", row.at_most)) if of is not None)
    met = {True: "met", False: "NOT MET", None: ""}[row.met]
    sides = "; ".join([*(f"{name} {value:.4g}" for name, value in row.sides.items()), *([f"{row.rounds} rounds"] if row.rounds > 1 else []), *filter(None, [row.note])])
    return f"{row.part:12} {value:20} {met:8} {bar:14} {row.what}" + (f" ({sides})" if sides else "")


def report(parts: Sequence[str], options: Options, output: Path | None = None) -> int:
    """Measure, print each row as it comes, write them as JSON; the exit status is 1 if a bar is not met."""
    import torch

    torch.set_num_threads(options.cores)
    about, found = machine(options), []
    print(", ".join(f"{name} {value}" for name, value in about.items()), file=sys.stderr)
    for row in run(parts, options):
        found.append(row)
        print(line(row), flush=True)
        if output:
            rows = [{**asdict(row), "met": row.met} for row in found]
            output.write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    return int(any(row.met is False for row in found))
