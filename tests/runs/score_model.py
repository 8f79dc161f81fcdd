"""Score a BERT with both heads: the figures in data/models/bertlab-mini/README.md.

    python tests/runs/score_model.py bertlab-mini=data/models/bertlab-mini all-MiniLM-L6-v2=sbert --corpus TEXTS --output scores.json

NAME=FOLDER  the checkpoints (sbert stands for bl.SBERT); TEXTS the folder with the pretraining text (*.txt.gz, not part of this project)
Without --corpus only what data/ and tests/data/ can measure is scored: cloze probes and similarity pairs.
The held-out text is fixed by the split in HELD_OUT and the SHA-1 of each other document; masks and pairs by seed 0.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

import bertlab as bl
from bertlab import pretraining as pt
from bertlab.checkpoints import data_folder, load_tokenizer
from bertlab.mlm import IGNORE
from bertlab.pooling import cosine, pool

SOURCES = ("books", "movie-reviews", "masc", "speeches", "wordnet", "everyday")  # the last one is data/everyday.txt
EXAMPLES = (  # what the card shows of knowledge, limits and biases
    "The [MASK] sat on the mat.",
    "She drank a cup of [MASK].",
    "Paris is the capital of [MASK].",
    "Berlin is the capital of [MASK].",
    "A robin is a [MASK].",
    "A robin is not a [MASK].",
    "Two plus two is [MASK].",
    "The doctor said that [MASK] would come back.",
    "The nurse said that [MASK] would come back.",
    "The man worked as a [MASK].",
    "The woman worked as a [MASK].",
    "The young Englishman was very [MASK].",
    "The young foreigner was very [MASK].",
)
HELD_OUT = {"books.txt.gz": [*range(265, 279), *range(439, 468)]}  # The Railway Children, The Invisible Man


def cloze(folder: str) -> dict:
    """Shares of the probes in tests/data/cloze.jsonl whose accepted answers hold the first (one of the first five) guesses."""
    probes = [json.loads(line) for line in (Path(__file__).parent.parent / "data" / "cloze.jsonl").read_text().splitlines()]
    hits: dict[str, list[tuple[bool, bool]]] = {}
    for probe in probes:
        tokens = [g.token for g in bl.predict_masked(probe["text"], 5, model=folder)[0]]
        hit = (tokens[0] in probe["answers"], bool(set(tokens) & set(probe["answers"])))
        for kind in ("all", probe["kind"]):
            hits.setdefault(kind, []).append(hit)
    return {kind: {"top1": round(float(np.mean(h, 0)[0]), 3), "top5": round(float(np.mean(h, 0)[1]), 3), "probes": len(h)} for kind, h in hits.items()}


def examples(folder: str) -> dict[str, list[str]]:
    """The first five guesses for EXAMPLES, with their probabilities."""
    return {text: [f"{g.token} {g.probability:.2f}" for g in bl.predict_masked(text, 5, model=folder)[0]] for text in EXAMPLES}


def similarity(folder: str) -> dict:
    """Spearman of cosine and the authors' grade on the test pairs, for each layer and pooling; mean cosine of unrelated sentences."""
    pairs = bl.similarity_pairs("test")
    grades = [p.grade for p in pairs]
    sides: list[dict] = [{}, {}]
    for side, texts in enumerate(([p.sentence_a for p in pairs], [p.sentence_b for p in pairs])):
        for start in range(0, len(texts), 64):
            encoded = bl.encode(texts[start : start + 64], model=folder)
            for layer, hidden in enumerate(encoded.hidden_states):
                for mode in ("cls", "mean", "max"):
                    sides[side].setdefault((layer, mode), []).append(pool(hidden, encoded.attention_mask, mode))
    spearman: dict[str, list[float]] = {}
    for layer, mode in sides[0]:
        scores = cosine(torch.cat(sides[0][layer, mode]), torch.cat(sides[1][layer, mode]))
        value = spearmanr(scores.tolist(), grades).statistic
        spearman.setdefault(mode, []).append(None if np.isnan(value) else round(float(value), 4))
    last = {m: torch.nn.functional.normalize(torch.cat(sides[0][layer, m]), dim=-1) for m in ("cls", "mean", "max")}
    n = len(pairs)
    unrelated = {m: round(float(((v @ v.T).sum() - n) / (n * (n - 1))), 3) for m, v in last.items()}
    return {"pairs": n, "spearman_by_layer": spearman, "spearman": {m: v[-1] for m, v in spearman.items()}, "mean_cosine_unrelated": unrelated}


def overlap_baseline(cache: pt.TextCache, examples: np.ndarray) -> dict:
    """Accuracy by kind of 'B follows if enough words are shared': the threshold from one half, scored on the other."""
    share = np.array([len(a & b) / max(1, len(a | b)) for a, b in ((set(cache.tokens[r[0] : r[1]].tolist()), set(cache.tokens[r[2] : r[3]].tolist())) for r in examples)])
    follows, kinds, half = examples[:, 4] == 0, examples[:, 5], np.arange(len(examples)) % 2 == 0
    best = max(np.unique(share[half]), key=lambda t: ((share[half] >= t) == follows[half]).mean())
    right = (share >= best) == follows
    return {pt.PAIR_KINDS[k]: [round(float(right[~half & (kinds == k)].mean()), 4), int((~half & (kinds == k)).sum())] for k in np.unique(kinds)}


def held_out(folder: str, corpus: Path, cache_folder: str, count: int) -> dict:
    """Perplexity, MLM and NSP accuracy on held-out text: all of it, the two books, and each source."""
    from transformers import BertForPreTraining

    tokenizer = load_tokenizer(folder)
    model = BertForPreTraining.from_pretrained(folder).eval()
    files = [*(corpus / f"{s}.txt.gz" for s in SOURCES[:-1]), data_folder() / "everyday.txt"]
    cache = pt.TextCache.build(files, tokenizer, cache_folder, 0.05, HELD_OUT)
    examples = pt.held_out_examples(cache, pt.PairOptions(), count)
    sentence = np.searchsorted(cache.sentences, examples[:, 0], side="right") - 1
    source = cache.documents[np.searchsorted(cache.documents[:, 0], sentence, side="right") - 1, 2]
    result = {"all": pt.evaluate(model, tokenizer, cache, examples)}
    for number, name in enumerate(SOURCES):
        result[name] = pt.evaluate(model, tokenizer, cache, examples[source == number])
    for name, part in (("all", examples), *((n, examples[source == i]) for i, n in enumerate(SOURCES))):
        by_kind = result[name]["nsp_by_kind"]
        same = np.mean([by_kind[k][0] for k in ("next", "same source") if k in by_kind])
        result[name]["nsp_same_source_balanced"] = round(float(same), 4)
        result[name]["word_overlap_by_kind"] = overlap_baseline(cache, part[part[:, 4] != IGNORE])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "bertlab-cache"))
    parser.add_argument("--examples", type=int, default=3000, help="held-out pairs to score (default 3000)")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    scores = {}
    for name, folder in (model.split("=", 1) for model in args.models):
        folder = bl.SBERT if folder == "sbert" else folder
        has = bl.parts(folder)
        scores[name] = {"similarity": similarity(folder)}
        if has.mlm:
            scores[name]["cloze"] = cloze(folder)
            scores[name]["examples"] = examples(folder)
        if args.corpus and has.mlm and has.nsp:
            scores[name]["held_out"] = held_out(folder, args.corpus, args.cache, args.examples)
    text = json.dumps(scores, indent=1)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")
    print(text, file=sys.stdout)


if __name__ == "__main__":
    main()
