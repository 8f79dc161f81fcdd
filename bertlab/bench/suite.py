"""How long the notebooks take as a test suite, how much of that is starting kernels and importing, and what two workers gain.

The notebooks are run and compared by nbval, as `pytest notebooks` does it. Two workers are two such processes, which share the machine's
cores; CI uses pytest-xdist with `--dist loadfile`, which divides the files in such a way too.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import nbformat

from . import Options, Row, quartiles, ratio
from .memory import client, learners_environment, notebooks_folder

AT_MOST = 8 * 60.0  # seconds for all notebooks, one after another


def rows(options: Options) -> Iterator[Row]:
    """All notebooks one after another; kernel start and imports alone; two workers."""
    if missing := [name for name in ("pytest", "nbval") if find_spec(name) is None]:
        yield Row("suite", "all notebooks by nbval, seconds", None, note=f"not installed: pip install {' '.join(missing)}")
        return
    paths = sorted(notebooks_folder().glob("[0-9]*.ipynb"))[: 2 if options.quick else None]
    rounds = 1 if options.quick else options.rounds_or(1)
    found = [(one_after_another(paths, options.cores), starts(paths, options.cores)) for _ in range(rounds)]
    totals = [sum(seconds.values()) for seconds, _ in found]
    low, middle, high = quartiles(totals)
    sides = {f"{path.name[:2]}_s": quartiles([seconds[path] for seconds, _ in found])[1] for path in paths}
    yield Row("suite", f"{len(paths)} notebooks by nbval one after another, seconds", middle, low, high, rounds, at_most=AT_MOST, sides=sides)
    parts = [sum(start.values()) for _, start in found]
    yield ratio("suite", "kernel start and imports alone / all of it", parts, totals, sides={"start_s": quartiles(parts)[1], "all_s": middle})
    halves = divided(paths, found[0][0])
    together = [two_workers(halves, options.cores) for _ in range(rounds)]
    note = "; ".join(" ".join(path.name[:2] for path in half) for half in halves)
    yield ratio("suite", "one after another / two workers", totals, together, sides={"one_s": middle, "two_s": quartiles(together)[1]}, note=f"the workers' notebooks: {note}")


def one_after_another(paths: Sequence[Path], threads: int) -> dict[Path, float]:
    """Seconds of nbval for each notebook, in a process of its own."""
    return {path: finish([start_nbval([path], threads)]) for path in paths}


def divided(paths: Sequence[Path], seconds: dict[Path, float]) -> list[list[Path]]:
    """The notebooks for two workers, the longest first, each to the one that has less to do.

    >>> divided([Path("a"), Path("b"), Path("c")], {Path("a"): 3.0, Path("b"): 5.0, Path("c"): 1.0}) == [[Path("b")], [Path("a"), Path("c")]]
    True
    """
    halves: list[list[Path]] = [[], []]
    for path in sorted(paths, key=seconds.__getitem__, reverse=True):
        min(halves, key=lambda half: sum(seconds[p] for p in half)).append(path)
    return halves


def two_workers(halves: Sequence[Sequence[Path]], cores: int) -> float:
    """Seconds until both are through; each computes with its share of the cores."""
    return finish([start_nbval(half, max(1, cores // 2)) for half in halves if half])


def start_nbval(paths: Sequence[Path], threads: int) -> tuple[float, subprocess.Popen, tempfile.TemporaryDirectory]:
    """(when, process, its home): pytest runs and compares these notebooks."""
    home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(notebooks_folder()), "--nbval", "--nbval-current-env"]
    command += ["--nbval-cell-timeout=300", *map(str, paths)]
    began = time.perf_counter()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return began, subprocess.Popen(command, cwd=home.name, env=learners_environment(Path(home.name), threads), **pipes), home


def finish(started: Sequence[tuple[float, subprocess.Popen, tempfile.TemporaryDirectory]]) -> float:
    """Seconds from the first start to the last end; RuntimeError if an output is not what is stored."""
    said = [process.communicate()[0] for _, process, _ in started]
    took = time.perf_counter() - started[0][0]
    for (_, process, home), output in zip(started, said):
        home.cleanup()
        if process.returncode:
            raise RuntimeError(f"The notebooks do not pass: {output[-600:]}")
    return took


def starts(paths: Sequence[Path], threads: int) -> dict[Path, float]:
    """Seconds to start a kernel for each notebook and import what it imports, and to stop it."""
    took = {}
    for path in paths:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(imports(nbformat.read(path, as_version=4)))])
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            began = time.perf_counter()
            client(notebook, path.parent, 300).execute(env=learners_environment(Path(home), threads), stderr=subprocess.DEVNULL)
            took[path] = time.perf_counter() - began
    return took


def imports(notebook: nbformat.NotebookNode) -> str:
    """Every import of a notebook's cells, and what prepares it; cells for the Hub are left out.

    >>> cells = [nbformat.v4.new_code_cell(source) for source in ("%load_ext bertlab\\nimport os", "x = 1\\nfrom math import pi")]
    >>> imports(nbformat.v4.new_notebook(cells=cells)).splitlines()
    ['%load_ext bertlab', 'import os', 'from math import pi']
    """
    lines = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or cell.source.startswith("%%"):
            continue
        lines += re.findall(r"^%load_ext .*$", cell.source, re.MULTILINE)
        plain = re.sub(r"^[%!].*$", "", cell.source, flags=re.MULTILINE)
        lines += [ast.unparse(node) for node in ast.parse(plain).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return "\n".join(lines)
