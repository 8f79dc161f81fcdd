"""Many learners on one machine, as on a shared hub: N at once, each with a kernel, run notebooks 01 to 04 whole. Linux only.

    python tests/runs/many_learners.py                     1, 4, 8 and 16 learners
    python tests/runs/many_learners.py 16 --notebooks 01 02

Every learner has a home of their own and opens one notebook after another, each in a fresh kernel. All begin at the same moment. Cells
tagged hub only say that they do nothing. With more than two learners each kernel computes in one thread. The memory is PSS, where a
page that several processes share counts for each in part, so the sum is what the machine needs. It is read all the time (--every);
what comes and goes in between is missed. A row of a Markdown table is printed for each N; the exit status is 1 if any cell raised.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbclient import NotebookClient

CHECKOUT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = CHECKOUT / "notebooks"
GIB = 2**20  # in KiB, which /proc counts in
HEADING = (
    "| learners | threads each | notebooks | failed | wall time, s | each learner, s | processor time of a learner, s "
    "| PSS of a learner, GiB: median, largest | PSS of all, GiB | left free, GiB |"
)


@dataclass
class Learner:
    """One learner: `failures` (a sentence each), `seconds` in all, `peak` PSS of the kernel in KiB, processor seconds by kernel."""

    home: Path
    client: NotebookClient | None = None
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak: int = 0
    cpu: dict[int, float] = field(default_factory=dict)

    async def work(self, paths: list[Path], threads: int, cell_timeout: float) -> None:
        began = time.monotonic()
        for path in paths:
            notebook = nbformat.read(path, as_version=4)
            self.client = NotebookClient(notebook, timeout=cell_timeout, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}})
            try:
                await self.client.async_execute(env=environment(self.home, threads), stderr=subprocess.DEVNULL)
            except Exception as error:  # whatever it is, the others go on and it is counted
                self.failures.append(f"{path.name}: {type(error).__name__}: {''.join(str(error).strip().splitlines()[-1:])}")
            self.client = None
        self.seconds = time.monotonic() - began

    def look(self) -> int:
        """KiB of the kernel now, 0 between two kernels; `peak` and `cpu` are brought up to date."""
        try:
            pid = self.client.km.provisioner.pid
            pss = kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss")
            ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]  # utime and stime
        except (AttributeError, OSError, LookupError):
            return 0
        self.cpu[pid] = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        self.peak = max(self.peak, pss)
        return pss


def kib(file: Path, name: str) -> int:
    """The number in a line such as "Pss:  1234 kB"; KeyError if there is none, as for a process that has just ended."""
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(lines[name].split()[0])


def environment(home: Path, threads: int) -> dict[str, str]:
    """A learner's own: home, progress, settings; the bundled weights."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BERTLAB_", "HF_", "JUPYTER", "IPYTHON", "OMP_"))}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    own = {"HOME": str(home), "BERTLAB_PROGRESS": str(home / "progress.jsonl"), "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    return {**kept, **own, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}


async def together(number: int, paths: list[Path], every: float) -> bool:
    """Let `number` learners work at once and print the row; whether nobody failed."""
    threads = 1 if number > 2 else 0  # 0: torch's own number
    with tempfile.TemporaryDirectory() as folder:
        learners = [Learner(Path(folder, str(n))) for n in range(number)]
        for learner in learners:
            learner.home.mkdir()
        began, total, free = time.monotonic(), 0, available()
        running = asyncio.gather(*(learner.work(paths, threads, 600 * max(1, number)) for learner in learners))
        while not running.done():
            total, free = max(total, sum(learner.look() for learner in learners)), min(free, available())
            await asyncio.wait([running], timeout=every)
        await running
        wall = time.monotonic() - began
    for place, learner in enumerate(learners, 1):
        for failure in learner.failures:
            print(f"learner {place}: {failure}", file=sys.stderr)
    failed = sum(bool(learner.failures) for learner in learners)
    peaks, seconds = [learner.peak / GIB for learner in learners], [learner.seconds for learner in learners]
    names = " ".join(path.name[:2] for path in paths)
    print(
        f"| {number} | {threads or 'all'} | {names} | {failed} | {wall:.0f} | {min(seconds):.0f} to {max(seconds):.0f} "
        f"| {statistics.median(sum(learner.cpu.values()) for learner in learners):.0f} "
        f"| {statistics.median(peaks):.2f}, {max(peaks):.2f} | {total / GIB:.2f} | {free / GIB:.1f} |",
        flush=True,
    )
    return not failed


def available() -> int:
    """KiB that the machine still has for programs."""
    return kib(Path("/proc/meminfo"), "MemAvailable")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", type=int, default=[1, 4, 8, 16], metavar="N", help="how many learners at once")
    parser.add_argument("--notebooks", nargs="+", default=["01", "02", "03", "04"], metavar="NN", help="which notebooks each runs")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="between two looks at the memory (%(default)s)")
    options = parser.parse_args(arguments)
    paths = [path for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")) if path.name[:2] in options.notebooks]
    print(f"{HEADING}\n{'|---' * HEADING.count(' | ')}|---|", flush=True)
    good = [asyncio.run(together(number, paths, options.every)) for number in options.numbers]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
