"""Exercises that check themselves: `bl.check("02.1", mean_pool)`, `bl.hint("02.1")`, `bl.solution("02.1")`, `bl.progress()`.

One module a notebook holds the hidden cases, the hints and the solutions. The statement and the starter stand in the notebook.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import import_module
from pkgutil import iter_modules

from ..inputs import short
from . import record
from .core import Exercise, examine


@cache
def exercises() -> dict[str, Exercise]:
    """Every exercise by its number, in the order of the course.

    >>> list(exercises())[0]
    '01.1'
    """
    modules = sorted(m.name for m in iter_modules(__path__) if re.fullmatch(r"ex\d\d_\w+", m.name))
    found = [value for name in modules for value in vars(import_module(f".{name}", __name__)).values() if isinstance(value, Exercise)]
    return {task.number: task for task in sorted(found, key=lambda task: task.number)}


def find_exercise(number: str) -> Exercise:
    """The exercise with a number such as "02.1" or 2.1; ValueError with the numbers of its notebook if there is none."""
    tasks, (notebook, _, place) = exercises(), short(number).strip("' ").partition(".")
    wanted = f"{notebook.zfill(2)}.{place}"
    if wanted in tasks:
        return tasks[wanted]
    near = [n for n in tasks if n[:2] == wanted[:2]] or [f"{n}.1" for n in dict.fromkeys(n[:2] for n in tasks)]
    raise ValueError(f"There is no exercise {short(number)}; there are {', '.join(near)}. Give the number as text, such as {near[0]!r}.")


def check(number: str, answer: object) -> None:
    """Run your function on the hidden cases of an exercise and print what it found.

    number  such as "02.1", as in the exercise's heading
    answer  your function itself, without brackets
    A starter that nobody touched is "not attempted". A pass is noted for `bl.progress()`.
    Raises ValueError only for a number that does not exist.
    """
    task = find_exercise(number)
    feedback = examine(task, answer)
    print(feedback.text)
    if feedback.verdict == "passed":
        if not record.counts()[task.number, "passed"]:
            record.add(task.number, "passed")
    elif feedback.verdict == "not yet":
        print(f"Stuck? bl.hint({task.number!r})")


def case(number: str, place: int = 1) -> tuple:
    """The arguments of a hidden case, as `check` names it: `mean_pool(*bl.case("02.1", 2))` is what your function makes of it.

    Raises ValueError for a number or a place that does not exist.

    >>> hidden, attention_mask = case("02.1", 2)
    >>> attention_mask.tolist()
    [[1, 1, 1, 1], [1, 1, 0, 0]]
    """
    cases = find_exercise(number).cases()
    if isinstance(place, bool) or not isinstance(place, int) or not 1 <= place <= len(cases):
        raise ValueError(f"Exercise {number} has the cases 1 to {len(cases)}, not {short(place)}.")
    return copy.deepcopy(cases[place - 1].arguments)


def hint(number: str) -> None:
    """Print the first hint of an exercise, the next time the first two, and so on."""
    task = find_exercise(number)
    hints, number = task.hints, task.number
    record.add(number, "hint")
    seen = min(record.counts()[number, "hint"], len(hints))
    for place, words in enumerate(hints[:seen], 1):
        print(f"Hint {place} of {len(hints)}: {words}")
    print(f"Still stuck? Call bl.hint({number!r}) again." if seen < len(hints) else f"That was the last one. bl.solution({number!r}) shows the answer.")


def solution(number: str) -> None:
    """Print the commented solution of an exercise, and why it is so."""
    task = find_exercise(number)
    record.add(task.number, "solution")
    print(f"{task.source}\n\nWhy: {task.why}")


@dataclass(frozen=True)
class Progress:
    """How far a learner is.

    done   numbers of the exercises passed
    shown  numbers of those whose solution was looked at
    """

    done: tuple[str, ...]
    shown: tuple[str, ...]

    @property
    def rows(self) -> list[tuple[str, int, int, str]]:
        """(notebook, passed, how many there are, the numbers that are open) for each notebook."""
        notebooks: dict[str, list[str]] = {}
        for number in exercises():
            notebooks.setdefault(number[:2], []).append(number)
        return [(name, len(set(numbers) & set(self.done)), len(numbers), " ".join(n for n in numbers if n not in self.done)) for name, numbers in notebooks.items()]

    @property
    def share(self) -> float:
        """The part of all exercises that is passed, 0 to 1."""
        return len(self.done) / len(exercises())

    def __str__(self) -> str:
        from ..widgets.panel import bar

        lines = [f"{name}  {bar(done / of, 10)}  {done} of {of}{f'   open: {open_}' if open_ else ''}" for name, done, of, open_ in self.rows]
        return "\n".join([f"{len(self.done)} of {len(exercises())} exercises passed ({self.share:.0%}).", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def progress() -> Progress:
    """Which exercises you have passed, on this machine; see `bertlab.exercises.record` for where that is kept."""
    counts = record.counts()
    return Progress(*(tuple(n for n in exercises() if counts[n, event]) for event in ("passed", "solution")))
