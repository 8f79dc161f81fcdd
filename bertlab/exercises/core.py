"""How an exercise is checked: the learner's function runs on hidden cases, and usual mistakes are recognised by what they return.

Used by every notebook from notebooks/01_cls_token.ipynb on. An exercise is written down as a function, its solution:

    @exercise("02.1", "The mean over real tokens", "easy", cases=padded_batches, hints=["..."], why="...")
    def mean_pool(hidden, attention_mask):
        ...

and each usual mistake as another, which is both the text for the learner and the test that it is recognised:

    @mean_pool.mistake("Divide by the number of real tokens, not by T.")
    def padding_in_the_mean(hidden, attention_mask):
        return hidden.mean(1)
"""

from __future__ import annotations

import copy
import inspect
import math
import re
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Number

LEVELS = ("easy", "medium", "hard")
TOLERANCE = 1e-3  # of numbers, absolute and relative: a sum may be taken in another order


class Case:
    """One hidden case: what it tests, in words that complete "case ...", and the arguments of the learner's function."""

    def __init__(self, name: str, *arguments: object):
        self.name, self.arguments = name, arguments

    def run(self, function: Callable) -> object:
        """What a function makes of copies of the arguments; an exception is caught and returned."""
        import torch

        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return function(*copy.deepcopy(self.arguments))
        except Exception as error:
            return error


@dataclass(frozen=True)
class Mistake:
    """A usual mistake: a function that makes it, and what to tell somebody who does."""

    name: str
    function: Callable
    nudge: str


@dataclass(frozen=True)
class Feedback:
    """What `examine` found: verdict is "passed", "not yet" or "not attempted"; text is what the learner reads."""

    number: str
    verdict: str
    text: str


@dataclass(eq=False)
class Exercise:
    """An exercise and all that belongs to it; the statement and the starter stand in the notebook.

    number    notebook and place in it, such as "02.1"
    title     as in the notebook's heading
    level     one of LEVELS
    solution  a function that passes; its source is what `bl.solution` shows
    cases     gives the hidden cases
    hints     from a push in the right direction to nearly all of it
    why       what the exercise teaches: shown after passing and beside the solution
    judge     for exercises with many right answers: judge(result, *arguments) -> what to say, "" if it is right
    parts     the names of the entries of a result that is a tuple, such as ("low", "high")
    """

    number: str
    title: str
    level: str
    solution: Callable
    cases: Callable[[], Sequence[Case]]
    hints: tuple[str, ...]
    why: str
    judge: Callable[..., str] | None = None
    parts: tuple[str, ...] = ()
    mistakes: list[Mistake] = field(default_factory=list)

    def mistake(self, nudge: str) -> Callable[[Callable], Callable]:
        """Register the decorated function as a usual mistake of this exercise."""

        def register(function: Callable) -> Callable:
            self.mistakes.append(Mistake(function.__name__.replace("_", " ").strip(), function, nudge))
            return function

        return register

    @property
    def source(self) -> str:
        """The solution's code, without the decorator."""
        lines = textwrap.dedent(inspect.getsource(self.solution)).splitlines()
        first = next(i for i, line in enumerate(lines) if line.startswith("def "))
        return "\n".join(lines[first:])


def exercise(number: str, title: str, level: str, *, cases: Callable, hints: Sequence[str], why: str, judge: Callable | None = None, parts: Sequence[str] = ()):
    """Make an `Exercise` of the decorated function, which is the solution."""

    def make(solution: Callable) -> Exercise:
        return Exercise(number, title, level, solution, cases, tuple(hints), why, judge, tuple(parts))

    return make


# ---------------------------------------------------------------- checking


def examine(task: Exercise, answer: object) -> Feedback:
    """Run a learner's function on the hidden cases of an exercise. Never raises for what the learner wrote.

    >>> twice = exercise("99.1", "Double it", "easy", cases=lambda: [Case("three", 3)], hints=["Add it to itself."], why="")(lambda x: 2 * x)
    >>> examine(twice, lambda x: x + x).verdict
    'passed'
    >>> print(examine(twice, lambda x: x).text)
    99.1 not yet: case 1, three: expected 6, got 3.
    Look at it yourself: <lambda>(*bl.case('99.1', 1))
    """
    name = getattr(task.solution, "__name__", "your_function")
    if answer is ...:
        return _not_attempted(task)
    if not callable(answer):
        return _not_yet(task, f"hand over the function itself, without brackets: bl.check({task.number!r}, {name}). You gave {said(answer)}.")
    if (wrong := _wrong_signature(task, answer)) is not None:
        return _not_yet(task, wrong)
    cases = list(task.cases())
    results = []
    for case in cases:
        results.append(case.run(answer))
        if results[-1] is ...:
            return _not_attempted(task)
    problems = [_problem(task, case, result, answer) for case, result in zip(cases, results)]
    failed = next((i for i, problem in enumerate(problems) if problem), None)
    if failed is None:
        of = "the case" if len(cases) == 1 else f"all {len(cases)} cases"
        return Feedback(task.number, "passed", f"{task.number} passed: {of}. {task.why}".strip())
    nudge = _nudge(task, cases, results, failed)
    words = [f"case {failed + 1}, {cases[failed].name}: {problems[failed]}", f"Look at it yourself: {name}(*bl.case({task.number!r}, {failed + 1}))"]
    return _not_yet(task, "\n".join(words + [f"Nudge: {nudge}"] * bool(nudge)))


def _not_attempted(task: Exercise) -> Feedback:
    return Feedback(task.number, "not attempted", f"{task.number} not attempted: put your code where the three dots are, then run the cell again.")


def _not_yet(task: Exercise, words: str) -> Feedback:
    return Feedback(task.number, "not yet", f"{task.number} not yet: {words}")


def _wrong_signature(task: Exercise, answer: Callable) -> str | None:
    """What to say if the function cannot take the arguments of the starter."""
    try:
        wanted, found = inspect.signature(task.solution), inspect.signature(answer)
        found.bind(*wanted.parameters)
    except TypeError:
        return f"your function must take the arguments {wanted}, as in the starter; it takes {found}."
    except ValueError:  # a builtin without a signature
        return None
    return None


def _problem(task: Exercise, case: Case, result: object, answer: Callable) -> str:
    """What is wrong with the result of one case, "" if nothing."""
    if isinstance(result, Exception):
        return f"your function stopped with {type(result).__name__}: {_one_line(result)}{_place(result, answer)}."
    if result is None:
        return "your function returned None. Does it end with return?"
    if task.judge is not None:
        try:
            return task.judge(result, *copy.deepcopy(case.arguments))
        except Exception as error:  # an answer of another kind than the judge can read
            return f"the answer {said(result)} cannot be read ({type(error).__name__}: {_one_line(error)}). Does it have the form of the starter?"
    problem = difference(result, case.run(task.solution))
    if named := re.match(r"entry (\d+): ", problem):
        return problem.replace(named[0], f"{task.parts[int(named[1])]}: ", 1) if task.parts else problem
    return problem


def _nudge(task: Exercise, cases: Sequence[Case], results: Sequence[object], failed: int) -> str:
    """The advice for the mistake that explains every result, also those that are right; "" if none does."""
    if task.judge is not None:
        return ""  # the judge's own words are the advice
    in_order = [failed, *(i for i in range(len(cases)) if i != failed)]  # the failed case rules most mistakes out
    return next((m.nudge for m in task.mistakes if all(_alike(cases[i].run(m.function), results[i]) for i in in_order)), "")


def _alike(one: object, other: object) -> bool:
    if isinstance(one, Exception) or isinstance(other, Exception):
        return type(one) is type(other) and str(one) == str(other)
    return not difference(one, other)


def _one_line(error: Exception, most: int = 160) -> str:
    words = " ".join(str(error).split()) or "no message"
    return words if len(words) <= most else words[: most - 1] + "…"


def _place(error: Exception, answer: Callable) -> str:
    """The line of the learner's own code in which it happened."""
    code = getattr(answer, "__code__", None)
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if code and frame.filename == code.co_filename]
    return f', in your line "{lines[-1].line}"' if lines and lines[-1].line else ""


# ---------------------------------------------------------------- comparing and describing


def difference(got: object, expected: object) -> str:
    """What makes `got` another answer than `expected`, in words; "" if they are the same within TOLERANCE.

    A list is as good as a tuple, an array as a tensor, and a number as a tensor with one.

    >>> difference((1, 2.0), [1, 2.0001]), difference(3, 4)
    ('', 'expected 4, got 3.')
    """
    import numpy as np
    import torch

    if isinstance(expected, Exception):
        raise expected  # our own solution must not fail
    if isinstance(expected, np.ndarray):
        return difference(got, torch.as_tensor(expected.copy())).replace("a tensor of shape", "an array of shape")
    if isinstance(got, (np.ndarray, np.generic)) and getattr(got, "dtype", np.dtype(object)).kind in "biuf":
        got = torch.as_tensor(got.copy())  # a copy, for torch refuses an array that was turned round with [::-1]
    if isinstance(expected, torch.Tensor):
        return _tensor_difference(got, expected)
    if isinstance(got, torch.Tensor) and got.ndim == 0:
        got = got.item()
    elif isinstance(got, torch.Tensor) and isinstance(expected, (list, tuple)):
        got = got.tolist()
    if isinstance(expected, Number) and isinstance(got, Number):
        same = got == expected or math.isclose(got, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    elif isinstance(expected, Mapping):
        if not isinstance(got, Mapping) or set(got) != set(expected):
            return _expected(expected, got)
        return next((f"at {said(key)}: {d}" for key in expected if (d := difference(got[key], expected[key]))), "")
    elif isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)):
            return _expected(expected, got)
        if len(got) != len(expected):
            return f"expected {len(expected)} entries, {said(expected)}; got {len(got)}, {said(got)}."
        return next((f"entry {i}: {d}" for i, (g, e) in enumerate(zip(got, expected)) if (d := difference(g, e))), "")
    else:
        same = type(got) is type(expected) and got == expected
    return "" if same else _expected(expected, got)


def _tensor_difference(got: object, expected) -> str:
    import numpy as np
    import torch

    if isinstance(got, Number) or (isinstance(got, (list, tuple)) and got):
        try:
            rows = got if isinstance(got, (list, tuple)) else ()
            stack = next((stack for kind, stack in ((np.ndarray, np.stack), (torch.Tensor, torch.stack)) if rows and all(isinstance(row, kind) for row in rows)), None)
            got = torch.as_tensor(stack(rows) if stack else got)  # rows made one by one are as good as one array
        except (ValueError, TypeError, RuntimeError):
            pass
    if not isinstance(got, torch.Tensor):
        return _expected(expected, got)
    got, expected = got.detach().cpu(), expected.detach().cpu()
    if got.shape != expected.shape:
        return f"expected the shape {tuple(expected.shape)}, got {tuple(got.shape)}."
    a, b = got.to(torch.float64), expected.to(torch.float64)
    if bool(a.isnan().any()) and not bool(b.isnan().any()):
        return f"there is NaN (not a number) in your result; expected {said(expected)}."
    far = ~torch.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    if not bool(far.any()):
        return ""
    if got.numel() <= 8:
        return _expected(expected, got)
    at = tuple(far.nonzero()[0].tolist())
    return f"the first number that differs is at {list(at)}: expected {said(expected[at])}, got {said(got[at])}."


def _expected(expected: object, got: object) -> str:
    return f"expected {said(expected)}, got {said(got)}."


def said(value: object, most: int = 120) -> str:
    """A value in few words.

    >>> said([0.123456, "a"]), said({"b": 2})
    ("[0.123, 'a']", "{'b': 2}")
    """
    import torch

    if isinstance(value, torch.Tensor):
        if value.ndim == 0:
            return said(value.item())
        words = f"a tensor of shape {tuple(value.shape)}"
        return f"{words} with {said(value.tolist())}" if 0 < value.numel() <= 8 else words
    if isinstance(value, float):
        words = f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value + 0.0:.3g}"
    elif isinstance(value, (list, tuple)):
        inside = ", ".join(said(v, most) for v in value[:20]) + (", …" if len(value) > 20 else "")
        words = f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
    elif isinstance(value, Mapping):
        words = "{" + ", ".join(f"{said(k)}: {said(v)}" for k, v in list(value.items())[:20]) + "}"
    elif callable(value):
        words = f"the function {getattr(value, '__name__', '?')}"
    else:
        words = repr(value)
    return words if len(words) <= most else words[: most - 1] + "…"
