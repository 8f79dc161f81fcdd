"""Sentence vectors that mean something: siamese training, and scores of similarity.

Scores are taught in notebooks/02_pooling.ipynb, training in notebooks/08_sentence_bert.ipynb, which writes the
siamese network out by hand first.
Source: Reimers & Gurevych 2019, arXiv 1908.10084, sections 3 (training) and 4 (evaluation).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from .backends import Encoder, encoder
from .checkpoints import load_model, load_tokenizer, resolve
from .datasets import NliTriple, SimilarityPair
from .inputs import number, numbers, one_of, sequence, short, vectors as check_vectors, whole
from .pooling import cosine, pool_all, pooling_modes
from .tokens import batches, check_text, check_texts, layer_of

LOSSES = {  # our short name -> sentence-transformers' class
    "softmax": "SoftmaxLoss",
    "contrastive": "ContrastiveLoss",
    "ranking": "MultipleNegativesRankingLoss",
    "cosine": "CosineSimilarityLoss",
}


# ---------------------------------------------------------------- scores


def sentence_vectors(
    texts: Sequence[str],
    mode: str | Sequence[str] = "mean",
    *,
    layer: int = -1,
    model: str | None = None,
    batch_size: int = 64,
    backend: str = "torch",
) -> torch.Tensor | dict[str, torch.Tensor]:
    """Encode and pool many texts: (N, H), in the order of the texts; several modes, from one pass: {mode: (N, H)}.

    mode     a name from `pooling_modes()`, or a list of names
    layer    0 the embeddings, -1 the last layer
    model    a checkpoint folder; bl.BERT if not given
    backend  "torch", "onnx" (the same vectors) or "onnx-int8" (about twice as fast, nearly the same vectors): see bertlab.backends
    Texts of like length share a batch, and the memory does not grow with their number, but for the vectors themselves.

    >>> vectors = sentence_vectors(["Rain.", "A cat sat.", "Snow."], ["mean", "max"])
    >>> {mode: len(found) for mode, found in vectors.items()}
    {'mean': 3, 'max': 3}
    """
    texts, folder = check_texts(texts), model or resolve("BERT")
    modes = [mode] if isinstance(mode, str) else sequence(mode, "mode", "names of pooling modes, or one name")
    if not modes:
        raise ValueError(f"mode must name at least one pooling mode: choose from {', '.join(pooling_modes())}.")
    hidden_of, found = _hidden_of(folder, layer, backend), {}
    for places, batch in batches(texts, load_tokenizer(folder), whole(batch_size, "batch_size", 1)):
        with torch.inference_mode():
            pooled = pool_all(hidden_of(batch), batch["attention_mask"], modes)
        for name, vectors in pooled.items():
            if name not in found:
                found[name] = torch.empty(len(texts), vectors.shape[1], dtype=vectors.dtype)
            found[name][places] = vectors
    return found[mode] if isinstance(mode, str) else found


def _hidden_of(folder: str, layer: int, backend: str) -> Encoder:
    """From a batch to one layer's hidden states."""
    if layer == -1:
        return encoder(folder, backend)
    if backend != "torch":
        raise ValueError(f"The backend {short(backend)} gives the last layer only: use layer=-1 or backend=\"torch\".")
    return lambda batch: layer_of(load_model(folder)(**batch, output_hidden_states=True).hidden_states, layer)


def stream_vectors(
    sentences: Iterable[str], file: str | Path, *, model: str | None = None, devices: Sequence[str] | None = None,
    dtype: str = "float32", block: int = 20_000, batch_size: int = 64,
) -> np.memmap:  # fmt: skip
    """Encode more sentences than fit into memory: (N, H), read from `file` as one needs it, in the order of the sentences.

    sentences   any iterable, such as an open text file; only `block` of them are held at a time
    file        where the vectors go, in NumPy's own format (.npy), whole or not at all
    model       a SentenceTransformer's folder; bl.SBERT if not given
    devices     ["cuda:0", "cuda:1"], ["cpu", "cpu"]: a process for each, by SentenceTransformer's own pool; every GPU, or as many
                on the CPU as it has cores, if not given. One alone needs no pool.
    dtype       "float32", or "float16" for half the disk
    Raises ValueError for something that is no sentence, with its number, and where there are none at all.
    A script that calls this with several devices needs `if __name__ == "__main__":`, for the processes read it too.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vectors = stream_vectors((f"Rain fell on day {day}." for day in range(5)), folder + "/rain.npy", devices=["cpu"], block=2)
    ...     vectors.shape
    (5, 384)
    """
    from sentence_transformers import SentenceTransformer

    one_of(dtype, ("float32", "float16"), "dtype"), whole(block, "block", 1), whole(batch_size, "batch_size", 1)
    devices = sequence(devices, "devices", "names such as 'cpu'") if devices is not None else _all_devices()
    if not devices or not all(isinstance(device, str) for device in devices):
        raise ValueError(f"devices must name at least one, such as ['cpu'], not {short(devices)}.")
    network, file = SentenceTransformer(model or resolve("SBERT"), device=devices[0] if len(devices) == 1 else "cpu"), Path(file)
    header = {"descr": np.dtype(dtype).str, "fortran_order": False}
    width, rows, partial = network.get_embedding_dimension(), 0, file.with_name(file.name + ".partial")
    try:
        with _pool(network, devices) as pool, open(partial, "wb") as out:
            np.lib.format.write_array_header_1_0(out, header | {"shape": (0, width)})
            for texts in _blocks(sentences, block):
                vectors = network.encode(texts, batch_size=batch_size, pool=pool, show_progress_bar=False)  # (block, H)
                out.write(np.ascontiguousarray(vectors, dtype).data)
                rows += len(texts)
            out.seek(0)  # the header keeps room for any number of rows
            np.lib.format.write_array_header_1_0(out, header | {"shape": (rows, width)})
        if not rows:
            raise ValueError("There are no sentences to encode: an iterator gives its sentences only once.")
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return np.load(file, mmap_mode="r")


def _blocks(sentences: Iterable[str], block: int) -> Iterator[list[str]]:
    """Lists of at most `block` checked sentences.

    >>> list(_blocks(iter(["One.", "Two.", "Three."]), 2))
    [['One.', 'Two.'], ['Three.']]
    """
    if isinstance(sentences, str) or not isinstance(sentences, Iterable):
        raise ValueError(f"sentences must be strings, one after the other, not {short(sentences)}: for one text give a list of it.")
    checked = (check_text(text, f"sentence {number}") for number, text in enumerate(sentences))
    while texts := list(islice(checked, block)):
        yield texts


def _all_devices() -> list[str]:
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"] * (os.cpu_count() or 1)


@contextmanager
def _pool(network, devices: Sequence[str]):
    """SentenceTransformer's pool of processes for several devices, each with its share of the cores; None for one alone."""
    if len(devices) == 1:
        yield None
        return
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = before or str(max(1, (os.cpu_count() or 1) // len(devices)))  # read when a process begins
    try:
        pool = network.start_multi_process_pool(list(devices))
    finally:
        os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
    try:
        yield pool
    finally:
        network.stop_multi_process_pool(pool)


def evaluate_similarity(pairs: Sequence[SimilarityPair], mode: str = "mean", *, layer: int = -1, model: str | None = None) -> float:
    """Spearman's rank correlation (-1 to 1) between cosine similarity and the authors' grade.

    Source: the evaluation of STS, SBERT paper section 4.1. Taught in 02_pooling.

    >>> from bertlab import SBERT, similarity_pairs
    >>> 0 < evaluate_similarity(similarity_pairs("test")[:40], model=SBERT) < 1
    True
    """
    from scipy.stats import spearmanr

    if len(pairs) < 3:
        raise ValueError(f"A rank correlation of {len(pairs)} pairs says nothing: give at least 3.")
    a = sentence_vectors([p.sentence_a for p in pairs], mode, layer=layer, model=model)
    b = sentence_vectors([p.sentence_b for p in pairs], mode, layer=layer, model=model)
    cosines, grades = numbers(cosine(a, b), "the cosines"), numbers([p.grade for p in pairs], "the grades")
    if np.ptp(cosines) == 0 or np.ptp(grades) == 0:
        raise ValueError("All cosines, or all grades, are the same: a rank correlation needs pairs that differ.")
    return float(spearmanr(cosines, grades).statistic)


@dataclass(frozen=True)
class Spearman:
    """A Spearman correlation, or the difference of two, with a 95 % interval: low to high."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """"above", "below" or "too close to call": where the interval lies beside zero."""
        return "above" if self.low > 0 else "below" if self.high < 0 else "too close to call"

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def spearman_interval(grades: Sequence[float], cosines, minus=None, *, draws: int = 1000, seed: int = 0) -> Spearman:
    """Spearman's correlation with the grades, and how far it would move with other pairs (a bootstrap over the pairs).

    grades   (N,)
    cosines  (N,), or (R, N) for R runs with different seeds: their correlations are averaged
    minus    the same for a second method: the result is then the first one's lead over it, on the same draws
    The interval is about the choice of pairs. It is not about the seeds of a training.
    Raises ValueError if the numbers of pairs differ.

    >>> grades = [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]
    >>> spearman_interval(grades, grades).value
    1.0
    >>> spearman_interval(grades, grades, minus=grades[::-1]).verdict
    'above'
    """
    grades = numbers(grades, "grades")
    methods = [np.atleast_2d(numbers(values, "cosines", (1, 2))) for values in (cosines, minus) if values is not None]
    for runs in methods:
        if runs.shape[1] != len(grades):
            raise ValueError(f"There are {len(grades)} grades and {runs.shape[1]} cosines: give one cosine a pair.")
    if not methods or len(grades) < 3 or any(not len(runs) for runs in methods):
        raise ValueError(f"A rank correlation of {len(grades)} pairs says nothing: give at least 3, with one cosine each.")
    if any((np.ptp(row) == 0) for row in (grades, *(run for runs in methods for run in runs))):
        raise ValueError("All grades, or all cosines of a run, are the same: a rank correlation needs pairs that differ.")
    whole(draws, "draws", 1)
    everything = np.arange(len(grades))[None]  # one draw: every pair once
    drawn = np.random.default_rng(seed).integers(len(grades), size=(draws, len(grades)))  # (draws, N)
    value, spread = (sum(sign * np.mean([_correlations(run, grades, at) for run in runs], 0) for sign, runs in zip((1, -1), methods)) for at in (everything, drawn))
    if not np.isfinite(spread).any():
        raise ValueError(f"In none of {draws} draws do the pairs differ: give more pairs.")
    low, high = np.nanpercentile(spread, [2.5, 97.5])
    return Spearman(round(float(value[0]), 6), float(low), float(high))


def _correlations(a: np.ndarray, b: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Spearman's correlation of two rows (N,) in each draw of positions (D, N): (D,)."""
    from scipy.stats import rankdata

    a, b = (ranks - ranks.mean(1, keepdims=True) for ranks in (rankdata(values[draws], axis=1) for values in (a, b)))
    with np.errstate(invalid="ignore"):  # a draw of one pair alone has no correlation: NaN
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def anisotropy(vectors: torch.Tensor) -> float:
    """The mean cosine of two different rows of (N, H): near 1 if all vectors point the same way, near 0 if they spread.

    Source: Ethayarajh 2019, arXiv 1909.00512, section 4.1.

    >>> anisotropy(torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]))
    1.0
    """
    vectors = check_vectors(vectors, "vectors")
    if len(vectors) < 2:
        raise ValueError(f"anisotropy compares at least two vectors, (N, H), not {tuple(vectors.shape)}.")
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    n = len(unit)
    return round((float((unit @ unit.T).sum()) - n) / (n * (n - 1)), 6)


def flat_map(vectors: torch.Tensor) -> tuple[torch.Tensor, tuple[float, float]]:
    """Flatten vectors (N, H) to two dimensions by PCA: points (N, 2), and the share of the variance on each axis.

    The axes are the two directions in which the vectors differ most. Which way an axis points is arbitrary: here the first
    vector that is not in the middle of an axis lies to its right, or above. An axis without variance is 0.
    Raises ValueError for fewer than two vectors. Source: Pearson 1901, doi 10.1080/14786440109462720.
    Taught in notebooks/08_sentence_bert.ipynb.

    >>> points, shares = flat_map(torch.tensor([[4.0, 1.0, 0.0], [0.0, 1.0, 0.0], [2.0, 1.0, 0.0]]))
    >>> points.tolist(), shares
    ([[2.0, 0.0], [-2.0, 0.0], [0.0, 0.0]], (1.0, 0.0))
    """
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError(f"A map needs at least two vectors, (N, H), not {tuple(vectors.shape)}.")
    centred = vectors.double() - vectors.double().mean(0)
    u, lengths, _ = torch.linalg.svd(centred, full_matrices=False)  # (N, K), (K,): K is the smaller of N and H
    shares = lengths.square() / max(float(lengths.square().sum()), 1e-12)
    points = torch.zeros(len(vectors), 2, dtype=torch.double)
    for axis in range(min(2, len(lengths))):
        if shares[axis] > 1e-6:
            along = u[:, axis] * lengths[axis]
            first = along[along.abs() > 0.01 * along.abs().max()][0]
            points[:, axis] = along * first.sign()
    points = points.float().round(decimals=4) + 0.0  # no -0.0
    return points, tuple(round(float(share), 4) for share in torch.nn.functional.pad(shares, (0, 2))[:2])


# ---------------------------------------------------------------- siamese training


def recast(triples: Sequence[NliTriple], loss: str) -> list[tuple[str, str, int]]:
    """Inference triples as the examples (sentence_a, sentence_b, label) that a loss needs.

    softmax      three pairs a triple: 0 entailment, 1 neutral, 2 contradiction
    contrastive  two pairs a triple: 1 for the entailment, 0 for the contradiction
    ranking      one pair a triple, anchor and entailment; the label 0 is not read, the batch gives the negatives
    "cosine" needs graded pairs: see `graded`.

    >>> triple = NliTriple("It rained.", "It was wet.", "It was cold.", "It was dry.")
    >>> recast([triple], "contrastive")
    [('It rained.', 'It was wet.', 1), ('It rained.', 'It was dry.', 0)]
    """
    columns = {
        "softmax": (("entailment", 0), ("neutral", 1), ("contradiction", 2)),
        "contrastive": (("entailment", 1), ("contradiction", 0)),
        "ranking": (("entailment", 0),),
    }
    if loss not in columns:
        raise ValueError(f"Triples cannot be recast for {loss!r}: choose from {', '.join(columns)}; for graded pairs there is `graded`.")
    return [(t.anchor, getattr(t, column), label) for t in triples for column, label in columns[loss]]


def graded(pairs: Sequence[SimilarityPair]) -> list[tuple[str, str, float]]:
    """Graded pairs as examples for the loss "cosine": the grade 0 to 5 becomes a target from 0 to 1.

    >>> graded([SimilarityPair("It rained.", "Rain fell.", 5.0, "ordinary")])
    [('It rained.', 'Rain fell.', 1.0)]
    """
    return [(p.sentence_a, p.sentence_b, p.grade / 5) for p in pairs]


def siamese(folder: str | None = None, mode: str = "mean"):
    """A SentenceTransformer on the CPU: the encoder in `folder` (bl.BERT if not given), then pooling.

    Taught in notebooks/08_sentence_bert.ipynb, section 6.

    >>> siamese(mode="cls")[1].pooling_mode
    'cls'
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(folder or resolve("BERT"))
    return SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode=mode)], device="cpu")


def with_pooling(model, mode: str):
    """The same encoder, not a copy, read with another pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    return SentenceTransformer(modules=[model[0], Pooling(model[0].get_embedding_dimension(), pooling_mode=mode)], device="cpu")


def train_siamese(model, examples: Sequence[tuple[str, str, float]], loss: str = "ranking", options=None, **run) -> list[dict]:
    """Train a SentenceTransformer in place; the records of `bertlab.fine_tuning.fit`, which takes `run` (output, resume, callback).

    examples  (sentence_a, sentence_b, label) from `recast` or `graded`
    loss      a name from LOSSES, with sentence-transformers' own settings: margin 0.5, scale 20
    options   a FitOptions
    Raises ValueError for an unknown loss. A new classifier ("softmax") is drawn from options.seed and thrown away.

    >>> from bertlab.fine_tuning import FitOptions
    >>> log = train_siamese(siamese(), [("It rained.", "Rain fell.", 1.0)], "cosine", FitOptions(epochs=2))
    >>> len(log)
    2
    """
    from .fine_tuning import FitOptions, fit

    options = options or FitOptions()
    for place, example in enumerate(examples := sequence(examples, "examples", "triples (sentence_a, sentence_b, label)")):
        if not isinstance(example, (tuple, list)) or len(example) != 3:
            raise ValueError(f"examples[{place}] must be (sentence_a, sentence_b, label): `recast` and `graded` make such examples.")
        check_text(example[0], f"sentence_a of examples[{place}]"), check_text(example[1], f"sentence_b of examples[{place}]")
        number(example[2], f"the label of examples[{place}]")
    objective = _objective(model, loss, options.seed)

    def loss_of(objective, batch):
        a, b, labels = zip(*batch)
        return objective([model.preprocess(list(a)), model.preprocess(list(b))], torch.tensor(labels))

    return fit(objective, examples, loss_of, options, **run)


def _objective(model, loss: str, seed: int) -> torch.nn.Module:
    """sentence-transformers' loss, a module that holds the model."""
    from sentence_transformers.sentence_transformer import losses

    one_of(loss, LOSSES, "loss")
    torch.manual_seed(seed)
    new_head = {"embedding_dimension": model.get_embedding_dimension(), "num_labels": 3} if loss == "softmax" else {}
    return getattr(losses, LOSSES[loss])(model, **new_head)


def pair_cosines(model, pairs: Sequence[SimilarityPair], batch_size: int = 64) -> np.ndarray:
    """The cosine of each pair (N,), by a SentenceTransformer."""
    a, b = (
        model.encode([getattr(p, side) for p in pairs], batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False)
        for side in ("sentence_a", "sentence_b")
    )
    return cosine(a, b).numpy()
