"""How much memory a learner's kernel takes: notebooks 01 to 04 beside the same lessons with stock calls, and whether all runs under a hub's limit.

The lessons in stock/ (Python code, a cell begins at "# %%") do what the notebooks' cells do, with transformers, sentence-transformers and matplotlib alone: each model once, by
from_pretrained, from the folder that the notebook uses, in batches of the same size. The memory is PSS, in which a page that several processes
share counts for each in part; it is read all the time, and what comes and goes in between is missed. Linux only.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from . import Options, Row, environment, ratio

STOCK = Path(__file__).parent / "stock"
LESSONS = ("01", "02", "03", "04")
TOGETHER = 8  # learners
EVERY = 0.3  # seconds between two looks
GIB = 2**30
AT_MOST = 0.95


@dataclass
class Learner:
    """One learner: `failures` (a sentence each), `seconds` in all, `peaks` of PSS in bytes by notebook, processor seconds by kernel."""

    home: Path
    client: NotebookClient | None = None
    lesson: str = ""
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peaks: dict[str, int] = field(default_factory=dict)
    cpu: dict[int, float] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        return max(self.peaks.values(), default=0)

    async def work(self, lessons: dict[str, nbformat.NotebookNode], environment: dict[str, str], folder: Path, cell_timeout: float) -> None:
        """Run the lessons one after another, each in a fresh kernel that starts in `folder`."""
        began = time.monotonic()
        for self.lesson, notebook in lessons.items():
            self.client = client(notebook, folder, cell_timeout)
            try:
                await self.client.async_execute(env=environment, stderr=subprocess.DEVNULL)
            except Exception as error:  # whatever it is, the others go on and it is counted
                self.failures.append(f"{self.lesson}: {type(error).__name__}: {''.join(str(error).strip().splitlines()[-1:])}")
            self.client = None
        self.seconds = time.monotonic() - began

    def look(self) -> int:
        """Bytes of the kernel now, 0 between two kernels; `peaks` and `cpu` are brought up to date."""
        try:
            pid = self.client.km.provisioner.pid
            pss = kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss") * 1024
            ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]  # utime and stime
        except (AttributeError, OSError, LookupError):
            return 0
        self.cpu[pid] = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        self.peaks[self.lesson] = max(self.peaks.get(self.lesson, 0), pss)
        return pss


def client(notebook: nbformat.NotebookNode, folder: Path, cell_timeout: float) -> NotebookClient:
    """What runs a notebook in a kernel of this interpreter."""
    return NotebookClient(notebook, timeout=cell_timeout, kernel_name="python3", store_widget_state=False, resources={"metadata": {"path": str(folder)}})


def kib(file: Path, name: str) -> int:
    """The number in a line such as "Pss:  1234 kB"; KeyError if there is none, as for a process that has just ended."""
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(lines[name].split()[0])


def available() -> int:
    """Bytes that the machine still has for programs."""
    return kib(Path("/proc/meminfo"), "MemAvailable") * 1024


def learners_environment(home: Path, threads: int) -> dict[str, str]:
    """A learner's own: home, progress, settings; the bundled weights, and their folders for the stock lessons."""
    from ..checkpoints import bundled_folder

    own = {"HOME": str(home), "BERTLAB_PROGRESS": str(home / "progress.jsonl"), "HF_HUB_OFFLINE": "1"}
    own |= {f"LESSON_{name}": str(bundled_folder(name)) for name in ("BERT", "SBERT")}
    return environment(("BERTLAB_", "HF_", "JUPYTER", "IPYTHON", "OMP_", "PYTEST_"), **own, **({"OMP_NUM_THREADS": str(threads)} if threads else {}))


def notebooks_folder() -> Path:
    """Where the notebooks lie: in the wheel, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(folder for folder in (package / "notebooks", package.parent / "notebooks") if folder.is_dir())


def ours(numbers: Sequence[str]) -> dict[str, nbformat.NotebookNode]:
    """The notebooks with these numbers."""
    return {path.name[:2]: nbformat.read(path, as_version=4) for path in sorted(notebooks_folder().glob("[0-9]*.ipynb")) if path.name[:2] in numbers}


def stock(numbers: Sequence[str]) -> dict[str, nbformat.NotebookNode]:
    """The stock lessons with these numbers as notebooks: a cell begins at "# %%".

    >>> len(stock(["01"])["01"].cells) > 5
    True
    """
    lessons = {}
    for number in numbers:
        _, *cells = (STOCK / f"{number}.txt").read_text(encoding="utf-8").split("# %%\n")
        lessons[number] = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells])
    return lessons


async def together(number: int, lessons: dict[str, nbformat.NotebookNode], threads: int, every: float = EVERY, cell_timeout: float = 600.0) -> tuple[list[Learner], int, int]:
    """Let `number` learners run the lessons at once: the learners, the most bytes of all of them, the fewest that the machine had left."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        learners = [Learner(Path(folder, str(n))) for n in range(number)]
        for learner in learners:
            learner.home.mkdir()
        total, free, place = 0, available(), notebooks_folder()
        copies = [{name: nbformat.from_dict(notebook) for name, notebook in lessons.items()} for _ in learners]
        work = (learner.work(own, learners_environment(learner.home, threads), place, cell_timeout * max(1, number)) for learner, own in zip(learners, copies))
        running = asyncio.gather(*work)
        while not running.done():
            total, free = max(total, sum(learner.look() for learner in learners)), min(free, available())
            await asyncio.wait([running], timeout=every)
        await running
    return learners, total, free


def peaks(number: int, lessons: dict[str, nbformat.NotebookNode]) -> dict[str, float]:
    """The median over the learners of each lesson's peak, in MiB; RuntimeError if one of them failed."""
    learners, _, _ = asyncio.run(together(number, lessons, threads=1))
    if failures := [failure for learner in learners for failure in learner.failures]:
        raise RuntimeError(f"{len(failures)} of {number * len(lessons)} runs failed: {failures[0]}")
    return {lesson: statistics.median(learner.peaks[lesson] for learner in learners) / 2**20 for lesson in lessons}


def compared(number: int, numbers: Sequence[str], rounds: int, **bar) -> Row:
    """The Row of bertlab / stock for so many learners at once, the one after the other."""
    found: dict[str, list[dict[str, float]]] = {"bertlab": [], "stock": []}
    for _ in range(rounds):
        for side, lessons in (("bertlab", ours(numbers)), ("stock", stock(numbers))):
            found[side].append(peaks(number, lessons))
    sides = {f"{side}_{lesson}_MiB": statistics.median(run[lesson] for run in runs) for side, runs in found.items() for lesson in numbers}
    above, below = ([max(run.values()) for run in runs] for runs in found.values())
    what = f"largest peak PSS of a kernel in notebooks {', '.join(numbers)}, " + (f"as one of {number}" if number > 1 else "alone") + ", bertlab / stock calls"
    return ratio("memory", what, above, below, sides=sides, note="stock: each model once, by from_pretrained, see bertlab/bench/stock", **bar)


def rows(options: Options) -> Iterator[Row]:
    """Beside stock calls, alone and as one of 8; then under a hub's limits."""
    if not Path("/proc/self/smaps_rollup").exists():
        yield Row("memory", "peak PSS of a kernel, bertlab / stock calls", None, note="only Linux says how much of a process's memory is shared")
        return
    lessons = ("04",) if options.quick else LESSONS
    yield compared(1, lessons, 1 if options.quick else options.rounds_or(2))
    yield compared(2 if options.quick else TOGETHER, lessons, 1 if options.quick else options.rounds_or(2), at_most=AT_MOST)
    every = [path.name[:2] for path in sorted(notebooks_folder().glob("[0-9]*.ipynb"))]
    for gibs, numbers in ((1, ["00"] if options.quick else ["00", *LESSONS]), (2, [] if options.quick else every)):
        if numbers:
            yield under(gibs * GIB, numbers)
    yield said_in_words()


# ---------------------------------------------------------------- under a limit


def under(limit: int, numbers: Sequence[str]) -> Row:
    """How many of these notebooks run whole where the server and the kernel together may use `limit` bytes."""
    what = f"notebooks that run whole within {limit / GIB:g} GiB, the server included"
    whole, sides, failed = 0, {}, []
    for number in numbers:
        try:
            with hub(limit) as (group, environment):
                error = run_in(group, ours([number])[number], environment)
                sides[f"{number}_MiB"] = group.peak() / 2**20
        except OSError as reason:
            return Row("memory", what, None, note=f"needs to be root on Linux with control groups ({reason})")
        whole += not error
        failed += [f"{number}: {error}"] if error else []
    return Row("memory", what, whole, rounds=len(numbers), at_least=len(numbers), sides=sides, note="; ".join(failed) or "MiB: the most that counted, pages of files included")


def said_in_words() -> Row:
    """Whether a cell that wants far more than the limit ends with a sentence, and the kernel goes on."""
    what = "a cell that wants 3 GiB of 1 GiB: 1 if a sentence is said and the next cell runs"
    cells = ["%load_ext bertlab\nimport torch", "x = torch.ones(3 * 2**28)", "print('goes on')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    try:
        with hub(GIB) as (group, environment):
            error = run_in(group, notebook, environment, allow_errors=True)
    except OSError as reason:
        return Row("memory", what, None, note=f"needs to be root on Linux with control groups ({reason})")
    said = [str(output.get("text", "")) for cell in notebook.cells for output in cell.outputs]
    good = not error and any("There is not enough memory" in text for text in said) and any("goes on" in text for text in said)
    return Row("memory", what, int(good), at_least=1, note=error)


@contextmanager
def hub(limit: int) -> Iterator[tuple[Group, dict[str, str]]]:
    """A control group in which the course's server runs, and a learner's environment; OSError where none can be made."""
    with Group.made(limit) as group, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        own = learners_environment(Path(folder), 0)
        command = [sys.executable, "-m", "bertlab.cli", "lab", "--no-browser", "--ServerApp.port=0"]
        with open(Path(folder, "log"), "w+") as log, subprocess.Popen(command, cwd=folder, env=own, stdout=log, stderr=log, start_new_session=True) as server:
            group.add(server.pid)
            try:
                until = time.monotonic() + 60
                while "token=" not in Path(folder, "log").read_text():
                    if server.poll() is not None or time.monotonic() > until:
                        raise RuntimeError(f"The lab did not start: {Path(folder, 'log').read_text()[-400:]}")
                    time.sleep(0.2)
                yield group, own
            finally:
                os.killpg(server.pid, signal.SIGTERM)
                try:
                    server.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(server.pid, signal.SIGKILL)


def run_in(group: Group, notebook: nbformat.NotebookNode, environment: dict[str, str], allow_errors: bool = False) -> str:
    """Run a notebook whose kernel belongs to the group; what went wrong, "" if nothing did."""
    runner = client(notebook, notebooks_folder(), 900)
    runner.allow_errors = allow_errors
    runner.on_notebook_start = lambda **_: group.add(runner.km.provisioner.pid)
    try:
        runner.execute(env=environment, stderr=subprocess.DEVNULL)
    except Exception as error:  # DeadKernelError, CellExecutionError: it is counted
        return f"{type(error).__name__}: {''.join(str(error).strip().splitlines()[-1:])}"
    return ""


@dataclass(frozen=True)
class Group:
    """A control group with a limit of memory, of version 1 or 2."""

    folder: Path
    version: int

    @classmethod
    @contextmanager
    def made(cls, limit: int) -> Iterator[Group]:
        top = Path("/sys/fs/cgroup")
        group = cls(top / "memory" / f"bertlab-{os.getpid()}", 1) if (top / "memory").is_dir() else cls(top / f"bertlab-{os.getpid()}", 2)
        group.folder.mkdir()
        try:
            (group.folder / ("memory.limit_in_bytes" if group.version == 1 else "memory.max")).write_text(str(limit))
            yield group
        finally:
            for _ in range(50):  # the last process may still be leaving
                try:
                    return group.folder.rmdir()
                except OSError:
                    time.sleep(0.1)

    def add(self, pid: int) -> None:
        """Move a process into the group; what it starts later belongs to it too."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def peak(self) -> int:
        """The most bytes that counted so far."""
        return int((self.folder / ("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")).read_text())
