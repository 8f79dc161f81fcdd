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
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bertlab.bench.memory import GIB, ours, together

HEADING = (
    "| learners | threads each | notebooks | failed | wall time, s | each learner, s | processor time of a learner, s "
    "| PSS of a learner, GiB: median, largest | PSS of all, GiB | left free, GiB |"
)


def row(number: int, names: list[str], every: float) -> bool:
    """Let `number` learners work at once and print the row; whether nobody failed."""
    threads, began = 1 if number > 2 else 0, time.monotonic()  # 0: torch's own number
    learners, total, free = asyncio.run(together(number, ours(names), threads, every))
    wall = time.monotonic() - began
    for place, learner in enumerate(learners, 1):
        for failure in learner.failures:
            print(f"learner {place}: {failure}", file=sys.stderr)
    failed = sum(bool(learner.failures) for learner in learners)
    peaks, seconds = [learner.peak / GIB for learner in learners], [learner.seconds for learner in learners]
    print(
        f"| {number} | {threads or 'all'} | {' '.join(names)} | {failed} | {wall:.0f} | {min(seconds):.0f} to {max(seconds):.0f} "
        f"| {statistics.median(sum(learner.cpu.values()) for learner in learners):.0f} "
        f"| {statistics.median(peaks):.2f}, {max(peaks):.2f} | {total / GIB:.2f} | {free / GIB:.1f} |",
        flush=True,
    )
    return not failed


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", type=int, default=[1, 4, 8, 16], metavar="N", help="how many learners at once")
    parser.add_argument("--notebooks", nargs="+", default=["01", "02", "03", "04"], metavar="NN", help="which notebooks each runs")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="between two looks at the memory (%(default)s)")
    options = parser.parse_args(arguments)
    print(f"{HEADING}\n{'|---' * HEADING.count(' | ')}|---|", flush=True)
    good = [row(number, options.notebooks, options.every) for number in options.numbers]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
