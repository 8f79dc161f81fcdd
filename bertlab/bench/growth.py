"""Growth: pretraining over several processes with torch's own launcher, and encoding a stream with memory that stays flat.

    python -m bertlab.bench.growth 1000000
    python -m bertlab.bench.growth 1000000 cuda:0 cuda:0 cuda:0 cuda:0

encodes a million sentences, here with a process for each device that is named: 40 minutes and more on two cores, too long for
`bertlab bench`, which encodes SENTENCES.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

from . import Options, Row, line

SENTENCES = 50_000
BAR = 0.02  # as for any two loss curves of this bench; rounding alone gives 0.0001


# ---------------------------------------------------------------- torchrun


def launch(processes: int, *arguments: str, threads: int = 1) -> None:
    """`bertlab pretrain`: with several processes as the README says, under torchrun. RuntimeError with its last words if it fails."""
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", str(processes)) if processes > 1 else ()
    command = [sys.executable, *launcher, "-m", "bertlab.cli", "pretrain", *arguments]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")


def losses_in(output: Path) -> tuple[list[float], float]:
    """MLM + NSP loss of each window of a run, and its last tokens a second."""
    log = [json.loads(entry) for entry in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    trained = [entry for entry in log if entry["event"] == "train"]
    return [entry["mlm_loss"] + entry["nsp_loss"] for entry in trained], trained[-1]["tokens_per_second"]


def distributed(options: Options) -> Row:
    """Two processes (gloo on a CPU) beside one with the doubled batch: how far the losses lie apart."""
    from ..checkpoints import data_folder

    size = ("--tokens", "7k", "--layers", "1", "--hidden", "64") if options.quick else ("--tokens", "300k", "--layers", "2", "--hidden", "128")
    batch = 128 if options.quick else 768
    recipe = (str(data_folder() / "everyday.txt"), *size, "--learning-rate", "2e-3", "--held-out-pairs", "0", "--quiet")
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        launch(1, *recipe, "--batch-tokens", str(2 * batch), "--output", str(one), threads=options.cores)
        launch(2, *recipe, "--batch-tokens", str(batch), "--output", str(two), threads=max(1, options.cores // 2))
        (alone, speed_alone), (both, speed_both) = losses_in(one), losses_in(two)
    apart = [abs(a / b - 1) for a, b in zip(both, alone, strict=True)]
    sides = {"two_first": both[0], "one_first": alone[0], "two_last": both[-1], "one_last": alone[-1], "two_tokens_per_s": speed_both, "one_tokens_per_s": speed_alone}
    what = "torchrun --nproc-per-node 2 / one process with the doubled batch: largest difference of the losses, as a share"
    return Row("growth", what, max(apart), at_most=BAR, sides=sides, note=f"{len(apart)} windows of 20 steps, {recipe[2]} tokens, {' '.join(size[2:])}")


# ---------------------------------------------------------------- a stream of sentences


def short_sentences(count: int) -> Iterator[str]:
    """`count` sentences of two to six words: those of data/everyday.txt, again and again."""
    from ..checkpoints import data_folder

    with open(data_folder() / "everyday.txt", encoding="utf-8") as lines:
        texts = [text.strip() for text in lines if 2 <= len(text.split()) <= 6]
    return islice(cycle(texts), count)


def memory_in_use() -> int:
    """Bytes in the memory of this process and all that it started; what they share counts for each."""
    import psutil

    total, own = 0, psutil.Process()
    for process in (own, *own.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:  # it has ended since
            pass
    return total


@contextmanager
def memory_watched(sentences: Iterator[str], every: int, seconds: float = 0.5):
    """Yields the sentences, to pass on, and a list of (sentences taken so far, bytes in use), which grows meanwhile."""
    taken, seen, over = 0, [], threading.Event()

    def counted() -> Iterator[str]:
        nonlocal taken
        for sentence in sentences:
            if taken % every == 0:
                seen.append((taken, memory_in_use()))
            taken += 1
            yield sentence

    def watch() -> None:
        while not over.wait(seconds):
            seen.append((taken, memory_in_use()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield counted(), seen
    finally:
        over.set()
        watcher.join()
        seen.append((taken, memory_in_use()))


def streamed(count: int, devices: list[str] | None = None) -> Row:
    """Encode a stream into a file, at most a tenth at a time: the memory in the last tenth of the run over that in the second one."""
    from ..sbert import stream_vectors

    block = max(1, min(20_000, count // 10))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with memory_watched(short_sentences(count), block) as (sentences, seen):
            vectors = stream_vectors(sentences, Path(folder) / "vectors.npy", devices=devices, block=block)
        took, shape, size = time.perf_counter() - began, vectors.shape, vectors.nbytes
        del vectors
    early = max(used for taken, used in seen if 0.1 * count < taken <= 0.2 * count)
    late = max(used for taken, used in seen if taken > 0.9 * count)
    middle = statistics.median(used for taken, used in seen if taken > 0.1 * count)
    sides = {"early_mb": early / 1e6, "median_mb": middle / 1e6, "late_mb": late / 1e6, "vectors_mb": size / 1e6, "sentences_per_s": count / took, "seconds": took}
    what = f"{shape[0]:,} sentences through SentenceTransformer's pool: memory in the last tenth / in the second tenth"
    return Row("growth", what, late / early, at_most=1.1, sides=sides, note=f"{block:,} sentences at a time; the text repeats; the largest of each tenth, all processes")


def rows(options: Options) -> Iterator[Row]:
    """The losses under torchrun, then the memory of a stream."""
    yield distributed(options)
    yield streamed(40, ["cpu"]) if options.quick else streamed(SENTENCES)


if __name__ == "__main__":
    print(line(streamed(int(sys.argv[1]), sys.argv[2:] or None)), flush=True)
