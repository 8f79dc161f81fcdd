"""Measurements for notebooks/09_semantic_search.ipynb, stored in data/results/search.json.

    python tests/runs/search.py                     every part (about 6 minutes on 2 cores)
    python tests/runs/search.py cross               only this part; the others stay as they are

cross     bl.BERT tuned on the training queries as a cross-encoder and as a bi-encoder, 3 seeds; re-ranking
cost      sentences encoded and pairs scored in a second, and what 10,000 sentences need
index     exact search, HNSW and IVF over every sentence of data/ and of the notebooks, and passages made from them
backends  torch and ONNX Runtime side by side (needs onnx and onnxruntime, which the course does not require)

Times are meant to be compared within one part only: one after another on the same machine, on nothing else's time.
The vectors of `index` are kept in the temporary folder, so that a second run need not encode again.
"""

import argparse
import hashlib
import importlib.util
import json
import re
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import bertlab as bl
from bertlab import search
from bertlab.checkpoints import data_folder, load_tokenizer
from bertlab.datasets import split_of
from bertlab.fine_tuning import FitOptions, fit
from bertlab.pooling import pool

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "data" / "results" / "search.json"
SEEDS = (0, 1, 2)
CANDIDATES = 10
PART = 4000  # texts encoded at a time
CROSS = FitOptions(epochs=2, learning_rate=2e-4, head_rate=5)
BI = FitOptions(epochs=3, learning_rate=1e-4)


def clock(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def sentence_model():
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(bl.SBERT, device="cpu")


def sentences_of(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", text.strip())


# ---------------------------------------------------------------- cross


def mean_vectors(model, tokenizer, texts: list[str]) -> torch.Tensor:
    batch = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
    return torch.nn.functional.normalize(pool(model(**batch).last_hidden_state, batch["attention_mask"]), dim=-1)


def tuned_bi_encoder(folder: str, pairs: list[tuple[str, str]], seed: int):
    """Mean pooling of bl.BERT, tuned so that each query is nearer to its passage than to the batch's other passages."""
    from transformers import AutoModel

    model, tokenizer = AutoModel.from_pretrained(folder), load_tokenizer(folder)

    def loss_of(model, batch):
        queries, passages = (mean_vectors(model, tokenizer, list(side)) for side in zip(*batch))
        return torch.nn.functional.cross_entropy(20 * queries @ passages.T, torch.arange(len(batch)))

    fit(model, pairs, loss_of, FitOptions(**{**vars(BI), "seed": seed}))
    return model, tokenizer


@torch.inference_mode()
def bi_scores(model, tokenizer, queries: list[str], texts: list[str]) -> np.ndarray:
    parts = [torch.cat([mean_vectors(model, tokenizer, t[i : i + 32]) for i in range(0, len(t), 32)]) for t in (queries, texts)]
    return (parts[0] @ parts[1].T).numpy()


def cross() -> dict:
    from transformers import AutoModel

    passages, queries = bl.datasets.passages(), bl.datasets.queries()
    place, texts = {p.id: i for i, p in enumerate(passages)}, [p.text for p in passages]
    splits = {name: [q for q in queries if split_of(q.text, 0.5) == name] for name in ("train", "test")}
    asked = [q.text for q in splits["test"]]
    relevant = [[place[i] for i in q.relevant] for q in splits["test"]]
    encode = sentence_model().encode
    vectors = encode(texts)
    first = {name: encode([q.text for q in part]) @ vectors.T for name, part in splits.items()}
    pairs = search.training_pairs(splits["train"], passages, first["train"])
    positive = [(p.query, p.passage) for p in pairs if p.label]
    tokenizer = load_tokenizer(bl.BERT)

    def evaluate(scores) -> search.SearchResult:
        """The right passage's place among the first search's CANDIDATES, in the order of `scores` (Q, N) or of a function of pairs."""
        if not callable(scores):
            kept = np.argsort(-first["test"], axis=1, kind="stable")[:, :CANDIDATES]
            all_of_them = np.full(first["test"].shape, -np.inf)
            np.put_along_axis(all_of_them, kept, np.take_along_axis(scores, kept, 1), 1)
            return bl.evaluate_search(all_of_them, relevant)
        return bl.evaluate_search(search.rerank(first["test"], asked, texts, scores, CANDIDATES), relevant)

    rng = np.random.default_rng(0)
    runs: dict[str, list[search.SearchResult]] = {
        "random order": [evaluate(rng.random(first["test"].shape)) for _ in range(200)],
        "bl.SBERT": [evaluate(first["test"])],
        "BM25": [evaluate(bl.bm25(asked, texts))],
        "bl.BERT, mean pooling as it is": [evaluate(bi_scores(AutoModel.from_pretrained(bl.BERT), tokenizer, asked, texts))],
        "bl.BERT, NSP head as it is": [evaluate(lambda some: np.array([a.is_next for a in bl.predict_next_many(some)]))],
    }
    for seed in SEEDS:
        model = search.cross_encoder(bl.BERT, seed)
        fit(model, pairs, search.pair_loss(tokenizer), FitOptions(**{**vars(CROSS), "seed": seed}))
        runs.setdefault("bl.BERT, cross-encoder tuned", []).append(evaluate(lambda some: search.cross_scores(model, tokenizer, some)))
        bi = tuned_bi_encoder(bl.BERT, positive, seed)
        runs.setdefault("bl.BERT, bi-encoder tuned", []).append(evaluate(bi_scores(*bi, asked, texts)))
        print(seed, {name: [round(r.mrr, 2) for r in results[:3]] for name, results in runs.items()}, flush=True)
    base, rows = runs["bl.SBERT"][0].reciprocal_ranks, {}
    measures = {"recall@1": lambda r: r.recall(1), "recall@5": lambda r: r.recall(5), "mrr": lambda r: r.mrr}
    chance = np.mean([r.reciprocal_ranks for r in runs["random order"]], axis=0)  # (Q,)
    for name, results in runs.items():
        each = np.mean([r.reciprocal_ranks for r in results], axis=0)  # (Q,), the mean over the seeds
        rows[name] = {
            **{key: by_seed([value(r) for r in results]) for key, value in measures.items()},
            "mrr_interval": rounded(search.bootstrap(each)),
            "mrr_minus_sbert": [round(float((each - base).mean()), 4), *rounded(search.bootstrap(each - base))],
            "mrr_minus_random": [round(float((each - chance).mean()), 4), *rounded(search.bootstrap(each - chance))],
        }
    gap = np.mean([a.reciprocal_ranks - b.reciprocal_ranks for a, b in zip(runs["bl.BERT, cross-encoder tuned"], runs["bl.BERT, bi-encoder tuned"])], axis=0)
    return {
        "train_queries": len(splits["train"]),
        "test_queries": len(asked),
        "training_pairs": len(pairs),
        "right_pairs": len(positive),
        "candidates": CANDIDATES,
        "recipe": {"cross": vars(CROSS), "bi": vars(BI)},
        "seeds": list(SEEDS),
        "among_candidates": round(bl.evaluate_search(first["test"], relevant).recall(CANDIDATES), 4),
        "rows": rows,
        "cross_minus_bi_same_start": [round(float(gap.mean()), 4), *rounded(search.bootstrap(gap))],
        "bert_sha256": hashlib.sha256((Path(bl.BERT) / "model.safetensors").read_bytes()).hexdigest(),
    }


def by_seed(values: list[float]) -> list[float]:
    """One value a seed; of many random orders only the mean."""
    return rounded(values if len(values) <= len(SEEDS) else [np.mean(values)])


def rounded(values) -> list[float]:
    return [round(float(v), 4) for v in values]


# ---------------------------------------------------------------- cost


def cost() -> dict:
    """Rates on everyday sentences; then 10,000 of them for real with the bi-encoder."""
    sentences = everyday()[:10_000]
    n, sample = len(sentences), sentences[::20]  # 500
    model, tokenizer, network = sentence_model(), load_tokenizer(bl.BERT), search.cross_encoder(bl.BERT)
    pairs = list(zip(sample[::2], sample[1::2]))  # 250
    rates: dict[str, list[float]] = {"sentences": [], "pairs": []}
    for repeat in range(4):
        one = len(sample) / clock(lambda: model.encode(sample))
        two = len(pairs) / clock(lambda: search.cross_scores(network, tokenizer, pairs))
        if repeat:  # the first round warms up
            rates["sentences"].append(one)
            rates["pairs"].append(two)
    sentence_rate, pair_rate = (statistics.median(r) for r in rates.values())
    vectors: list[np.ndarray] = []
    encode_seconds = clock(lambda: vectors.append(model.encode(sentences)))
    for start in range(0, n - PART + 1, PART):  # `index` begins with the same sentences
        np.save(kept(sentences[start : start + PART]), vectors[0][start : start + PART])
    best: list = []

    def compare():
        for start in range(0, n, 1000):
            block = vectors[0][start : start + 1000] @ vectors[0][start:].T  # (1000, n - start): each pair once
            block[np.tril_indices(len(block))] = -1  # no sentence with itself
            row, column = divmod(int(block.argmax()), block.shape[1])
            best.append((float(block[row, column]), start + row, start + column))

    compare_seconds = clock(compare)
    _, i, j = max(best)
    pairs_in_all = n * (n - 1) // 2
    return {
        "n": n,
        "pairs": pairs_in_all,
        "sentences_a_second": round(sentence_rate, 1),
        "pairs_a_second": round(pair_rate, 1),
        "one_pair_costs_sentences": round(sentence_rate / pair_rate, 2),
        "cross_hours": round(pairs_in_all / pair_rate / 3600, 1),
        "bi_encode_seconds": round(encode_seconds, 1),
        "bi_compare_seconds": round(compare_seconds, 2),
        "ratio": round(pairs_in_all / pair_rate / (encode_seconds + compare_seconds)),
        "paper": {"cross_hours": 65, "bi_encode_seconds": 5, "bi_compare_seconds": 0.01, "ratio": round(65 * 3600 / 5.01)},
        "most_similar": [sentences[i], sentences[j]],
    }


# ---------------------------------------------------------------- index


def everyday() -> list[str]:
    lines = (data_folder() / "everyday.txt").read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def course_texts() -> tuple[list[str], list[str]]:
    """(every sentence of data/ and of the notebooks, passages of two neighbouring sentences), without repetition."""
    d = bl.datasets
    sentences = everyday()
    sentences += [s for doc in d.documents() for s in doc.sentences] + [s for p in d.passages() for s in sentences_of(p.text)]
    sentences += [q.text for q in d.queries()] + [e.text for e in d.sentiment()] + [e.sentence for e in d.senses()]
    sentences += [s for p in d.similarity_pairs() for s in (p.sentence_a, p.sentence_b)]
    sentences += [s for t in d.nli() for s in (t.anchor, t.entailment, t.neutral, t.contradiction)]
    sentences += [" ".join(s.words) for s in d.ner()]
    sentences += [s for e in d.question_answering() for s in (*sentences_of(e.context), e.question)]
    sentences += [s for f in d.faq() for s in (f.question, f.answer, *f.wordings)]
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                prose = [line for line in "".join(cell["source"]).splitlines() if line.strip() and line[0] not in "|#$!`<>"]
                sentences += [s for s in sentences_of(" ".join(prose)) if len(s.split()) > 3]
    sentences = list(dict.fromkeys(sentences))
    documents = [d.split("\n") for d in (data_folder() / "everyday.txt").read_text(encoding="utf-8").strip().split("\n\n")]
    documents += [list(doc.sentences) for doc in bl.documents()] + [sentences_of(p.text) for p in bl.datasets.passages()]
    passages = [" ".join(doc[i : i + 2]) for doc in documents for i in range(0, len(doc) - 1, 3)]
    return sentences, [p for p in dict.fromkeys(passages) if p not in set(sentences)]


def kept(texts: list[str]) -> Path:
    """Where the vectors of these texts are kept."""
    folder = Path(tempfile.gettempdir()) / "bertlab-search"
    folder.mkdir(exist_ok=True)
    return folder / f"{hashlib.sha1(chr(10).join(texts).encode()).hexdigest()}.npy"


def course_vectors(texts: list[str]) -> np.ndarray:
    """(N, H) from bl.SBERT, unit length, kept in the temporary folder in parts of 4,000."""
    model, parts = None, []
    for start in range(0, len(texts), PART):
        part = texts[start : start + PART]
        file = kept(part)
        if not file.exists():
            model = model or sentence_model()
            np.save(file, model.encode(part))
            print(f"encoded {start + len(part)} of {len(texts)}", flush=True)
        parts.append(np.load(file))
    return np.concatenate(parts)


def one_at_a_time(look, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """(the neighbours found (Q, k), the median of three runs in seconds a query)."""
    found, seconds = [], []
    for repeat in range(3):
        answers: list = []
        seconds.append(clock(lambda: answers.extend(look(q[None]) for q in queries)) / len(queries))
        found = answers
    return np.concatenate(found), statistics.median(seconds)


def index(k: int = 10, asked: int = 300) -> dict:
    import faiss

    sentences, passages = course_texts()
    vectors = np.ascontiguousarray(course_vectors(sentences + passages), dtype=np.float32)
    order = np.random.default_rng(0).permutation(len(vectors))
    queries, base = vectors[order[:asked]], vectors[order[asked:]]  # real texts that are not in the index
    width = base.shape[1]
    threads = torch.get_num_threads()

    def build_seconds(work) -> float:
        """Built on all threads; searched on one."""
        faiss.omp_set_num_threads(threads)
        seconds = clock(work)
        faiss.omp_set_num_threads(1)
        return seconds

    exact = faiss.IndexFlatIP(width)
    build = build_seconds(lambda: exact.add(base))
    one_at_a_time(lambda q: exact.search(q, k)[1], queries)  # warms up
    truth, exact_seconds = one_at_a_time(lambda q: exact.search(q, k)[1], queries)
    rows = []

    def add(library, kind, parameter, value, look, seconds_to_build, size):
        found, seconds = one_at_a_time(look, queries)
        rows.append({
            "library": library, "index": kind, "parameter": parameter, "value": value,
            "recall": round(search.neighbour_recall(found, truth), 4),
            "time": round(seconds / exact_seconds, 4), "memory": round(size / flat_bytes, 3), "build_seconds": round(seconds_to_build, 2),
        })  # fmt: skip
        print(rows[-1], flush=True)

    flat_bytes = faiss.serialize_index(exact).nbytes
    add("faiss", "exact", None, None, lambda q: exact.search(q, k)[1], build, flat_bytes)
    eight = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    build = build_seconds(lambda: (eight.train(base), eight.add(base)))
    add("faiss", "exact, 8 bits a number", None, None, lambda q: eight.search(q, k)[1], build, faiss.serialize_index(eight).nbytes)
    lists = 256
    ivf = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    build = build_seconds(lambda: (ivf.train(base), ivf.add(base)))
    size = faiss.serialize_index(ivf).nbytes
    for probes in (1, 2, 4, 8, 16, 32, 64):
        ivf.nprobe = probes
        add("faiss", "IVF", "nprobe", probes, lambda q: ivf.search(q, k)[1], build, size)
    graph = faiss.IndexHNSWFlat(width, 16, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 100
    build = build_seconds(lambda: graph.add(base))
    size = faiss.serialize_index(graph).nbytes
    efs = (10, 20, 40, 80, 160, 320)
    for ef in efs:
        graph.hnsw.efSearch = ef
        add("faiss", "HNSW", "efSearch", ef, lambda q: graph.search(q, k)[1], build, size)
    if importlib.util.find_spec("hnswlib"):
        import hnswlib

        other = hnswlib.Index(space="ip", dim=width)
        other.init_index(max_elements=len(base), ef_construction=100, M=16, random_seed=100)
        build = clock(lambda: other.add_items(base, num_threads=threads))
        other.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            other.save_index(f"{folder}/index")
            size = Path(folder, "index").stat().st_size
        for ef in efs:
            other.set_ef(ef)
            add("hnswlib", "HNSW", "ef", ef, lambda q: other.knn_query(q, k=k)[0].astype(np.int64), build, size)
    growth = []
    for n in (1_000, 4_000, 16_000, len(base)):
        small, small_graph = faiss.IndexFlatIP(width), graph
        small.add(base[:n])
        if n < len(base):
            small_graph = faiss.IndexHNSWFlat(width, 16, faiss.METRIC_INNER_PRODUCT)
            small_graph.hnsw.efConstruction = 100
            build_seconds(lambda: small_graph.add(base[:n]))
        small_graph.hnsw.efSearch = 80
        (right, exact_time), (found, graph_time) = (one_at_a_time(lambda q: i.search(q, k)[1], queries) for i in (small, small_graph))
        growth.append({"n": n, "exact_ms": round(1000 * exact_time, 4), "hnsw_ms": round(1000 * graph_time, 4), "recall": round(search.neighbour_recall(found, right), 4)})
    return {
        "sentences": len(sentences), "passages": len(passages), "indexed": len(base), "queries": asked, "k": k, "width": width,
        "exact_ms": round(1000 * exact_seconds, 3), "exact_megabytes": round(flat_bytes / 1e6, 1), "rows": rows, "growth": growth,
        "setting": "one query at a time on one thread, built on all; HNSW with M = 16, efConstruction = 100; IVF with 256 lists",
    }  # fmt: skip


# ---------------------------------------------------------------- backends


def backends() -> dict:
    """The same batches through torch, ONNX Runtime in float32 and in int8, in turn, three times; then torch with other batches, on half of the texts."""
    from bertlab.backends import encoder, exported

    tokenizer = load_tokenizer(bl.SBERT)
    passages, queries = bl.datasets.passages(), bl.datasets.queries()
    place = {p.id: i for i, p in enumerate(passages)}
    relevant = [[place[i] for i in q.relevant] for q in queries]
    texts = [p.text for p in passages] + [q.text for q in queries]

    def batches(size: int, by_length: bool, step: int = 1) -> list:
        order = np.random.default_rng(0).permutation(len(texts))[::step].tolist()
        if by_length:
            order.sort(key=lambda i: len(texts[i]))
        rows = [order[i : i + size] for i in range(0, len(order), size)]
        return [(r, tokenizer([texts[i] for i in r], padding=True, truncation=True, max_length=256, return_tensors="pt")) for r in rows]

    def vectors(run, work) -> np.ndarray:
        found = np.zeros((len(texts), 384), dtype=np.float32)
        for rows, batch in work:
            found[rows] = torch.nn.functional.normalize(pool(run(batch), batch["attention_mask"]), dim=-1).numpy()
        return found

    work = batches(32, True)
    settings = {"32, sorted by length": batches(32, True, 2), "32, in random order": batches(32, False, 2), "8, sorted by length": batches(8, True, 2), "1": batches(1, True, 2)}
    ways = {name: encoder(bl.SBERT, backend) for name, backend in (("torch, float32", "torch"), ("ONNX Runtime, float32", "onnx"), ("ONNX Runtime, int8", "onnx-int8"))}
    files = [Path(bl.SBERT) / "model.safetensors", exported(bl.SBERT, "onnx"), exported(bl.SBERT, "onnx-int8")]
    sizes = [file.stat().st_size for file in files]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found = {name: vectors(run, work) for name, run in ways.items()}  # warms up
    for _ in range(3):
        for name, run in ways.items():
            seconds[name].append(clock(lambda: vectors(run, work)))
    assert np.abs(found["ONNX Runtime, float32"] - found["torch, float32"]).max() < 1e-3, "the exported model computes something else"
    base, reference = statistics.median(seconds["torch, float32"]), found["torch, float32"]
    rows = {}
    for (name, v), size in zip(found.items(), sizes):
        result = bl.evaluate_search(v[len(passages) :] @ v[: len(passages)].T, relevant)
        rows[name] = {
            "time": round(statistics.median(seconds[name]) / base, 3),
            "size": round(size / sizes[0], 3),
            "cosine_with_torch": round(float((v * reference).sum(1).mean()), 4),
            "recall@1": round(result.recall(1), 4),
            "mrr": round(result.mrr, 4),
        }
    times: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(2):
        for name, batch in settings.items():
            times[name].append(clock(lambda: vectors(ways["torch, float32"], batch)))
    batch_rows = {name: round(statistics.median(t) / statistics.median(times["32, sorted by length"]), 3) for name, t in times.items()}
    return {"texts": len(texts), "rows": rows, "batches": batch_rows, "versions": {p: version(p) for p in ("onnx", "onnxruntime")}}


# ---------------------------------------------------------------- the file

PARTS = {"cross": cross, "cost": cost, "index": index, "backends": backends}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--encode", type=int, metavar="N", help="only encode the first N texts of `index` and keep the vectors")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    if args.encode:
        sentences, passages = course_texts()
        print(len(sentences), len(passages), course_vectors((sentences + passages)[: args.encode]).shape)
        return
    found = json.loads(OUTPUT.read_text(encoding="utf-8")) if OUTPUT.exists() else {}
    found["command"] = "python tests/runs/search.py"
    for name in args.parts or PARTS:
        began = time.monotonic()
        part = PARTS[name]()
        machine = {"threads": torch.get_num_threads(), **{p: version(p) for p in ("torch", "transformers", "sentence-transformers", "faiss-cpu")}}
        found[name] = {**part, "measured_with": machine, "minutes": round((time.monotonic() - began) / 60, 1)}
        OUTPUT.parent.mkdir(exist_ok=True)
        OUTPUT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(name, json.dumps(found[name], ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
