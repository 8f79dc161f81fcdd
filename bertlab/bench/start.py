"""How long a new process takes to its first answer, beside transformers' pipeline with the same weights; and `import bertlab` alone.

The clock runs from the start of the process to the line that it prints; both sides print a token and its probability, which must agree.
tests/README.md ("What the start is spent on") says where the time goes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from . import Options, Row, environment, interleave, quartiles, ratio

TEXT = "The capital of France is [MASK]."
BERTLAB = f"""import bertlab as bl
(guesses,) = bl.predict_masked({TEXT!r})
print(guesses[0].token, guesses[0].probability)
from bertlab.checkpoints import load_model
print(type(load_model(bl.BERT, "mlm")).__module__)"""
PIPELINE = f"""from transformers import pipeline
guesses = pipeline("fill-mask", model=FOLDER)({TEXT!r})
print(guesses[0]["token_str"], guesses[0]["score"])"""
IMPORTS = """from transformers import AutoTokenizer, BertForMaskedLM
print("imported", 1.0)"""
REAL = "transformers.models.bert.modeling_bert"


@dataclass(frozen=True)
class Answer:
    """What a process printed: seconds until its first line, and the lines."""

    seconds: float
    lines: tuple[str, ...]


def ask(code: str, threads: int) -> Answer:
    """Run `code` in a new Python; RuntimeError if it fails or prints nothing. What it writes on stderr goes the same way for every side."""
    with tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(OMP_NUM_THREADS=str(threads)))
        first = process.stdout.readline()
        seconds = time.perf_counter() - began
        rest = process.stdout.read()
        if process.wait() or not first:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:]
            raise RuntimeError(f"A process of the bench failed ({last or 'it printed nothing'}); its code begins {code[:60]!r}.")
    return Answer(seconds, (first.strip(), *rest.split("\n")))


def check(ours: Answer, pipeline: Answer) -> None:
    """RuntimeError unless both gave the same answer, and ours with a model of transformers."""
    (a, p), (b, q) = (answer.lines[0].split() for answer in (ours, pipeline))
    if a != b or abs(float(p) - float(q)) > 1e-4:
        raise RuntimeError(f"The sides do not agree: bertlab says {a} ({p}), the pipeline {b} ({q}).")
    if ours.lines[1] != REAL:
        raise RuntimeError(f"bertlab's model comes from {ours.lines[1]}, not from {REAL}.")


def rows(options: Options) -> Iterator[Row]:
    """The import of bertlab; the first prediction beside the pipeline; the first prediction beside the imports that it needs."""
    yield _bare(options)
    yield from _prediction(options)


def _bare(options: Options) -> Row:
    times = interleave({"bertlab": lambda: ask("import bertlab; print(1)", options.cores).seconds, "bare": lambda: ask("print(1)", options.cores).seconds}, options.rounds_or(15))
    extra = [1000 * (a - b) for a, b in zip(times["bertlab"], times["bare"])]
    low, middle, high = quartiles(extra)
    sides = {f"{name}_ms": 1000 * quartiles(seconds)[1] for name, seconds in times.items()}
    return Row("start", "import bertlab, over Python alone, milliseconds", middle, low, high, len(extra), at_most=100, sides=sides)


def _prediction(options: Options) -> Iterator[Row]:
    from ..checkpoints import bundled_folder

    codes = {"bertlab": BERTLAB, "pipeline": PIPELINE.replace("FOLDER", repr(str(bundled_folder("BERT")))), "imports": IMPORTS}
    last: dict[str, Answer] = {}

    def side(name: str):
        def once() -> float:
            last[name] = ask(codes[name], options.cores)
            return last[name].seconds

        return once

    times = interleave({name: side(name) for name in codes}, options.rounds_or(9))
    check(last["bertlab"], last["pipeline"])
    sides = {f"{name}_s": quartiles(times[name])[1] for name in codes}
    ours = times["bertlab"]
    yield ratio(
        "start", "new process to the first MLM prediction: bertlab / pipeline, seconds", ours, times["pipeline"], at_most=1.0,
        sides={name: sides[name] for name in ("bertlab_s", "pipeline_s")}, note=f"both say {last['bertlab'].lines[0]}",
    )  # fmt: skip
    yield ratio(
        "start", "new process to the first MLM prediction: bertlab / only importing AutoTokenizer and BertForMaskedLM, seconds", ours, times["imports"],
        sides={name: sides[name] for name in ("bertlab_s", "imports_s")}, note="the imports are nearly all of it; with the garbage collector paused they take less",
    )  # fmt: skip
