"""Sentence vectors of 10,000 texts beside SentenceTransformer.encode and other engines: all with bl.SBERT's weights, one batch size, the same threads.

Models are loaded, and exported, before the clock starts. Each side orders its batches in its own way; fastembed, which takes texts as they
come, is given them sorted by length. That the vectors of the float paths agree is checked here.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from . import Options, Row, interleave, quartiles, ratio

BATCH = 64
AGREE = 0.999  # the least cosine of two float paths
Encode = Callable[[Sequence[str]], np.ndarray]  # texts -> (N, H)


class Missing(Exception):
    """A peer that is not installed, or that does not install beside the others."""


# ---------------------------------------------------------------- the texts


def mixed(n: int, seed: int = 0) -> list[str]:
    """n texts of mixed length: one to eight neighbouring sentences from the bundled texts, mostly one.

    >>> mixed(3) == mixed(4)[:3]
    True
    """
    draw, found = random.Random(seed), []
    documents = _documents()
    for _ in range(n):
        document = draw.choice(documents)
        start, many = draw.randrange(len(document)), draw.choice((1, 1, 1, 1, 1, 2, 3, 8))
        found.append(" ".join(document[start : start + many]))
    return found


def _documents() -> list[tuple[str, ...]]:
    from ..checkpoints import data_folder
    from ..datasets import documents

    everyday = (data_folder() / "everyday.txt").read_text(encoding="utf-8").strip().split("\n\n")
    return [*(tuple(filter(str.strip, text.split("\n"))) for text in everyday), *(document.sentences for document in documents())]


# ---------------------------------------------------------------- the sides


def ours(backend: str = "torch") -> Encode:
    """bertlab with every pooling mode; the mean is returned, as the others do."""
    from ..checkpoints import resolve
    from ..pooling import pooling_modes
    from ..sbert import sentence_vectors

    if backend != "torch":
        _need("onnx", "onnxruntime")
    return lambda texts: sentence_vectors(texts, pooling_modes(), model=resolve("SBERT"), batch_size=BATCH, backend=backend)["mean"].numpy()


def stock(backend: str = "torch") -> Encode:
    """SentenceTransformer.encode; Missing where its backend does not load."""
    from sentence_transformers import SentenceTransformer

    from ..checkpoints import resolve

    try:
        model = SentenceTransformer(resolve("SBERT"), device="cpu", backend=backend, local_files_only=True)
    except Exception as error:  # optimum and its parts fail in many ways where their versions do not fit
        needs = {"onnx": "optimum-onnx", "openvino": "optimum-intel"}.get(backend, backend)
        raise Missing(f"not installed: pip install {needs}, if there is one for this transformers ({str(error).splitlines()[0]:.120})") from None
    return lambda texts: model.encode(list(texts), batch_size=BATCH, show_progress_bar=False)


def fastembed(backend: str, threads: int) -> Encode:
    """fastembed on the file that bertlab exported ("onnx" or "onnx-int8"), with texts sorted by length."""
    _need("fastembed", "onnx", "onnxruntime")
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    from ..backends import exported
    from ..checkpoints import resolve

    source, name = Path(resolve("SBERT")), f"bertlab/sbert-{backend}"
    with tempfile.TemporaryDirectory() as folder:
        for file in source.glob("*.json"):
            shutil.copy(file, folder)
        shutil.copy(exported(str(source), backend), Path(folder) / "model.onnx")
        if name not in {known["model"] for known in TextEmbedding.list_supported_models()}:
            TextEmbedding.add_custom_model(name, pooling=PoolingType.MEAN, normalization=True, sources=ModelSource(hf=name), dim=384, model_file="model.onnx")
        model = TextEmbedding(name, threads=threads, specific_model_path=folder)

    def encode(texts: Sequence[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        found = np.empty((len(texts), 384), dtype=np.float32)
        found[order] = np.stack(list(model.embed([texts[i] for i in order], batch_size=BATCH)))
        return found

    return encode


def openvino(threads: int) -> Encode:
    """OpenVINO on the file that bertlab exported, in bertlab's batches, in the precision that OpenVINO itself chooses for this processor."""
    _need("openvino", "onnx", "onnxruntime")
    from openvino import Core

    from ..backends import exported
    from ..checkpoints import load_tokenizer, resolve
    from ..pooling import pool
    from ..tokens import batches

    folder, core = resolve("SBERT"), Core()
    model = core.compile_model(core.read_model(exported(folder, "onnx")), "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
    request, names = model.create_infer_request(), [entry.any_name for entry in model.inputs]

    def encode(texts: Sequence[str]) -> np.ndarray:
        found = np.empty((len(texts), 384), dtype=np.float32)
        for places, batch in batches(texts, load_tokenizer(folder), BATCH):
            hidden = request.infer({name: batch[name].numpy() for name in names})[model.outputs[0]]
            found[places] = pool(torch.from_numpy(hidden.copy()), batch["attention_mask"]).numpy()
        return found

    return encode


def _need(*packages: str) -> None:
    if lacking := [package for package in packages if find_spec(package) is None]:
        raise Missing(f"not installed: pip install {' '.join(lacking)}")


# ---------------------------------------------------------------- the rows


def rows(options: Options) -> Iterator[Row]:
    """bertlab beside the stock path; the fastest backend beside its peers; what eight bits cost; how time and memory grow."""
    yield from against_stock(options)
    yield from backends(options)
    yield from quality(options)
    yield from growth(options, "torch", 10_000)
    yield from growth(options, "onnx-int8", 100_000)


def against_stock(options: Options) -> Iterator[Row]:
    """10,000 texts: every pooling mode by bertlab, the mean by SentenceTransformer."""
    texts = mixed(12 if options.quick else 10_000)
    sides = {"bertlab": ours(), "sentence_transformers": stock()}
    _agree({name: encode(texts[:BATCH]) for name, encode in sides.items()})
    found: dict[str, np.ndarray] = {}
    times = interleave({name: _kept(encode, texts, found, name) for name, encode in sides.items()}, options.rounds_or(3), warm_up=0)
    _agree(found)
    yield ratio(
        "encoding", f"{len(texts):,} texts, every pooling mode: times as fast as SentenceTransformer.encode, torch", times["sentence_transformers"], times["bertlab"],
        at_least=1.0, sides={f"{name}_s": quartiles(seconds)[1] for name, seconds in times.items()}, note=f"batches of {BATCH}",
    )  # fmt: skip


def backends(options: Options) -> Iterator[Row]:
    """2,000 texts: "onnx-int8", every pooling mode, beside each peer that is there."""
    texts, peers = mixed(12 if options.quick else 2000, seed=1), {
        "SentenceTransformer.encode, torch": lambda: stock(),
        "SentenceTransformer.encode, its ONNX backend": lambda: stock("onnx"),
        "SentenceTransformer.encode, its OpenVINO backend": lambda: stock("openvino"),
        "fastembed, float32": lambda: fastembed("onnx", options.cores),
        "fastembed, the same int8 file": lambda: fastembed("onnx-int8", options.cores),
        "OpenVINO by itself": lambda: openvino(options.cores),
        'bertlab, backend="torch"': lambda: ours(),
        'bertlab, backend="onnx"': lambda: ours("onnx"),
    }  # fmt: skip
    about = f'{len(texts):,} texts, backend="onnx-int8": times as fast as '
    try:
        sides = {"ours": ours("onnx-int8")}
    except Missing as why:
        yield Row("encoding", about + "its peers", None, note=str(why))
        return
    absent: dict[str, str] = {}
    for name, make in peers.items():
        try:
            sides[name] = make()
        except Missing as why:
            absent[name] = str(why)
    found = {name: encode(texts[:BATCH]) for name, encode in sides.items()}  # warms up
    _agree({name: vectors for name, vectors in found.items() if "int8" not in name and name != "ours"})
    times = interleave({name: _kept(encode, texts, found, name) for name, encode in sides.items()}, options.rounds_or(5), warm_up=0)
    for name in peers:
        if name in absent:
            yield Row("encoding", about + name, None, note=absent[name])
            continue
        medians = {"bertlab_s": quartiles(times["ours"])[1], "peer_s": quartiles(times[name])[1]}
        bar = 1.0 if name == "SentenceTransformer.encode, torch" else None
        yield ratio("encoding", about + name, times[name], times["ours"], at_least=bar, sides=medians)


def quality(options: Options) -> Iterator[Row]:
    """What eight bits cost: Spearman's correlation with the graded pairs, minus that of float32, and the cosines between both."""
    from ..datasets import similarity_pairs
    from ..sbert import spearman_interval

    pairs = similarity_pairs()[: 8 if options.quick else None]
    what = f"Spearman on {len(pairs)} graded pairs, onnx-int8 minus torch"
    try:
        both = {"torch": ours(), "int8": ours("onnx-int8")}
    except Missing as why:
        yield Row("encoding", what, None, note=str(why))
        return
    vectors = {name: [_unit(encode([getattr(p, side) for p in pairs])) for side in ("sentence_a", "sentence_b")] for name, encode in both.items()}
    cosines = {name: (a * b).sum(1) for name, (a, b) in vectors.items()}
    grades = [p.grade for p in pairs]
    gap = spearman_interval(grades, cosines["int8"], minus=cosines["torch"], draws=100 if options.quick else 1000)
    same = np.concatenate([(a * b).sum(1) for a, b in zip(vectors["torch"], vectors["int8"])])
    scores = {name: spearman_interval(grades, of, draws=1).value for name, of in cosines.items()}
    note = f"low and high: 95 % interval over the pairs; cosine of both vectors {same.mean():.4f} on average, at least {same.min():.4f}"
    yield Row("encoding", what, gap.value, gap.low, gap.high, sides=scores, note=note)


def growth(options: Options, backend: str, most: int) -> Iterator[Row]:
    """Time a text and memory, from 100 texts to `most`: the same for many as for few, if time is linear and memory flat."""
    from ..tokens import WINDOW

    sizes = (4, 8) if options.quick else [n for n in (100, 1000, 10_000, 100_000) if n <= most]
    texts = mixed(sizes[-1], seed=2)
    what = f'from {sizes[0]:,} to {sizes[-1]:,} texts, backend="{backend}": '
    try:
        encode = ours(backend)
    except Missing as why:
        yield Row("encoding", what + "growth", None, note=str(why))
        return
    encode(sorted(texts, key=len)[-BATCH * WINDOW :])  # the largest batches of all: what the engine keeps for itself is there before the clock starts
    times, extra = {}, {}
    for n in sizes:
        some, each = texts[:n], []
        with _peak() as memory:
            for _ in range(1 if options.quick else max(1, min(5, 1000 // n))):
                began = time.perf_counter()
                vectors = encode(some)
                each.append((time.perf_counter() - began) / n)
        times[n], extra[n] = 1000 * quartiles(each)[1], memory["MB"] - _results_mb(vectors)
    note = "; ".join(f"{n:,}: {t:.2f} ms a text" for n, t in times.items())
    yield Row("encoding", what + f"time a text, {sizes[-1]:,} / {sizes[-2]:,}", times[sizes[-1]] / times[sizes[-2]], at_most=1.15, note=note)
    note = "; ".join(f"{n:,}: {mb:.0f} MB" for n, mb in extra.items())
    yield Row("encoding", what + f"memory beside the vectors, {sizes[-1]:,} minus {sizes[-2]:,}, MB", extra[sizes[-1]] - extra[sizes[-2]], at_most=64, note=note)


def _results_mb(vectors: np.ndarray) -> float:
    from ..pooling import pooling_modes

    return vectors.nbytes * len(pooling_modes()) / 1e6


@contextmanager
def _peak(every: float = 0.2) -> Iterator[dict[str, float]]:
    """By how many MB this process's memory grows at most meanwhile, looked at every 0.2 s: RSS, for to count USS walks through every page."""
    import psutil

    process, done = psutil.Process(), threading.Event()
    began, seen = process.memory_info().rss, [0]

    def watch() -> None:
        while not done.wait(every):
            seen.append(process.memory_info().rss - began)

    watcher, memory = threading.Thread(target=watch), {"MB": 0.0}
    watcher.start()
    try:
        yield memory
    finally:
        done.set()
        watcher.join()
        seen.append(process.memory_info().rss - began)
        memory["MB"] = max(seen) / 1e6


def _kept(encode: Encode, texts: Sequence[str], found: dict[str, np.ndarray], name: str) -> Callable[[], None]:
    def once() -> None:
        found[name] = encode(texts)

    return once


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _agree(found: dict[str, np.ndarray]) -> None:
    """RuntimeError unless every side computed the same vectors as the first."""
    first, *others = found
    for other in others:
        if (least := float((_unit(found[first]) * _unit(found[other])).sum(1).min())) < AGREE:
            raise RuntimeError(f"{first} and {other} do not compute the same: a text's vectors have the cosine {least:.4f}, less than {AGREE}.")
