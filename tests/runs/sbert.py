"""data/results/sbert.json: the trainings of notebooks/08_sentence_bert.ipynb that need several seeds.

    python tests/runs/sbert.py --output data/results/sbert.json            everything
    python tests/runs/sbert.py --part toy --output data/results/sbert.json   one part, the others stay as they are

losses   bl.BERT tuned with each loss, mean pooling: three losses on the same 600 inference triples' train split, recast
         for each; CosineSimilarityLoss on the graded train pairs. Every run sees about the same number of pairs.
pooling  the same with MultipleNegativesRankingLoss and [CLS] or max in place of the mean; each reads with all three
roles    the generalist and the specialists: hidden words, next sentences, sentiment on frozen vectors and fine-tuned
toy      notebook 05's tiny BERT: raw, tuned, and tuned from random weights, on graded pairs of the toy world

Nothing is chosen on the test pairs: the learning rate and the number of pairs were fixed before the first run. The
cosine of every test pair is kept, in the order of bl.similarity_pairs("test") or toy_world.similarity_pairs.
Where the processor multiplies bfloat16 in hardware, the trainings of bl.BERT do so; scoring is in float32.
Some 20 minutes on 2 cores.
"""

import argparse
import json
import sys
import tempfile
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from fast import fast
from score_model import cloze
from scipy.stats import rankdata, spearmanr

import bertlab as bl
from bertlab import toy_world as tw
from bertlab.checkpoints import SHA256, load_tokenizer
from bertlab.datasets import nli, sentiment
from bertlab.fine_tuning import FitOptions, fit
from bertlab.sbert import LOSSES, graded, pair_cosines, recast, sentence_vectors, siamese, train_siamese, with_pooling

POOLING = ("cls", "mean", "max")
BATCH, RATE = 16, 1e-4
pairs_seen = 862  # by every run; --pairs-seen changes it
TOY_PAIRS, TOY_EPOCHS, TOY_RATE = 600, 10, 1e-3


def examples_for(loss: str) -> list:
    return graded(bl.similarity_pairs("train")) if loss == "cosine" else recast(nli("train"), loss)


def tune(loss: str, mode: str, seed: int):
    """bl.BERT after one siamese training."""
    model, examples = siamese(bl.BERT, mode), examples_for(loss)
    options = FitOptions(epochs=pairs_seen / len(examples), batch_size=BATCH, learning_rate=RATE, seed=seed)
    with fast(model[0].auto_model):
        train_siamese(model, examples, loss, options)
    return model


@cache
def by_ranking(seed: int):
    return tune("ranking", "mean", seed)


def read(model, pairs) -> dict[str, list[float]]:
    """{pooling: cosines}, rounded."""
    return {mode: rounded(pair_cosines(with_pooling(model, mode), pairs)) for mode in POOLING}


def rounded(values) -> list[float]:
    return [round(float(v), 4) for v in values]


def spearman(cosines: dict[str, list[float]], pairs) -> dict[str, float]:
    return {mode: round(float(spearmanr(c, [p.grade for p in pairs]).statistic), 3) for mode, c in cosines.items()}


def say(*words) -> None:
    print(f"{time.monotonic() - BEGAN:5.0f} s", *words, flush=True)


BEGAN = time.monotonic()


# ---------------------------------------------------------------- the parts


def losses(seeds: int) -> dict:
    pairs = bl.similarity_pairs("test")
    before = read(siamese(bl.BERT), pairs)
    say("bl.BERT before", spearman(before, pairs))
    runs = []
    for loss in LOSSES:
        for seed in range(seeds):
            if loss == "ranking":  # this one is also part of the comparison of poolings
                cosines = read(by_ranking(seed), pairs)
            else:
                cosines = {"mean": rounded(pair_cosines(tune(loss, "mean", seed), pairs))}
            runs.append({"loss": loss, "trained_with": "mean", "seed": seed, "cosines": cosines})
            say(loss, seed, spearman(cosines, pairs))
    return {"before": before, "losses": runs, "examples": {loss: len(examples_for(loss)) for loss in LOSSES}}


def pooling(seeds: int) -> dict:
    pairs, runs = bl.similarity_pairs("test"), []
    for mode in ("cls", "max"):  # the mean is among `losses`
        for seed in range(seeds):
            cosines = read(tune("ranking", mode, seed), pairs)
            runs.append({"loss": "ranking", "trained_with": mode, "seed": seed, "cosines": cosines})
            say("trained with", mode, seed, spearman(cosines, pairs))
    return {"pooling": runs}


def roles(seeds: int) -> dict:
    rows = []
    for seed in range(seeds):
        for arm in ("bl.BERT", "bl.SBERT", "tuned"):
            with tempfile.TemporaryDirectory() as scratch:
                folder = {"bl.BERT": bl.BERT, "bl.SBERT": bl.SBERT}.get(arm) or graft(by_ranking(seed), scratch)
                row = {"arm": arm, "seed": seed, "fine_tuned": fine_tune(folder, seed)}
                if arm == "tuned" or seed == 0:  # without training there is nothing to draw
                    row |= {"frozen": frozen(folder)}
                    if arm != "bl.SBERT":  # it has no heads
                        row |= {"cloze": cloze(folder)["all"], "next": next_auc(folder)}
            rows.append(row)
            say(json.dumps(row))
    praise = np.mean([e.label for e in sentiment("test")])
    return {"roles": rows, "sentiment": {"train": len(sentiment("train")), "test": len(sentiment("test")), "larger class": round(float(max(praise, 1 - praise)), 2)}}


def graft(model, folder: str) -> str:
    """The tuned encoder under bl.BERT's old heads, in `folder`."""
    from transformers import BertForPreTraining

    whole = BertForPreTraining.from_pretrained(bl.BERT)
    whole.bert.load_state_dict(model[0].auto_model.state_dict())
    whole.save_pretrained(folder)
    load_tokenizer(bl.BERT).save_pretrained(folder)
    return folder


def next_auc(folder: str) -> float:
    """How often a real next sentence gets more than a sentence from another document (a coin: 0.5)."""
    pairs = bl.next_sentence_pairs(("next", "another source", "same source"))
    p = np.array([a.is_next for a in bl.predict_next_many([(p.sentence_a, p.sentence_b) for p in pairs], model=folder)])
    real = np.array([pair.label == 0 for pair in pairs])
    wins = rankdata(p)[real].sum() - real.sum() * (real.sum() + 1) / 2
    return round(float(wins / (real.sum() * (~real).sum())), 4)


def frozen(folder: str) -> dict[str, float]:
    """Sentiment: the test accuracy of a logistic regression on vectors that stay as they are."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = sentiment("train"), sentiment("test")
    result = {}
    for mode in ("cls", "mean"):
        x, held = (sentence_vectors([e.text for e in part], mode, model=folder).numpy() for part in (train, test))
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(x, [e.label for e in train])
        result[mode] = round(float(classifier.score(held, [e.label for e in test])), 4)
    return result


def fine_tune(folder: str, seed: int) -> float:
    """Sentiment: the test accuracy of BertForSequenceClassification after two epochs."""
    from transformers import BertForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()  # the classifier is meant to be new
    torch.manual_seed(seed)
    model, tokenizer = BertForSequenceClassification.from_pretrained(folder), load_tokenizer(bl.BERT)

    def batch_of(part):
        return tokenizer([e.text for e in part], padding=True, return_tensors="pt")

    with fast(model.bert):
        fit(model, sentiment("train"), lambda m, b: m(**batch_of(b), labels=torch.tensor([e.label for e in b])).loss, FitOptions(epochs=2, learning_rate=RATE, seed=seed))
    test, right = sentiment("test"), []
    with torch.inference_mode():
        for start in range(0, len(test), 50):
            part = test[start : start + 50]
            right += (model(**batch_of(part)).logits.argmax(-1) == torch.tensor([e.label for e in part])).tolist()
    return round(float(np.mean(right)), 4)


def toy(seeds: int) -> dict:
    train, test = toy_pairs()
    runs = []
    for seed in range(seeds):
        for start, tokens in (("pretrained", tw.TOKENS), ("random", 0)):
            with tempfile.TemporaryDirectory() as folder:
                tw.train(seed, tokens=tokens, output=folder)
                model = siamese(str(Path(folder) / "model"))
            raw = read(model, test)
            train_siamese(model, graded(train), "cosine", FitOptions(epochs=TOY_EPOCHS, batch_size=BATCH, learning_rate=TOY_RATE, seed=seed))
            tuned = {"mean": rounded(pair_cosines(model, test))}
            runs.append({"start": start, "state": "raw", "seed": seed, "cosines": {mode: raw[mode] for mode in ("cls", "mean")}})
            runs.append({"start": start, "state": "tuned", "seed": seed, "cosines": tuned})
            say("toy", start, seed, "raw", spearman(raw, test), "tuned", spearman(tuned, test))
    return {"toy": {"tokens": tw.TOKENS, "train_pairs": TOY_PAIRS, "runs": runs}}


def toy_pairs() -> tuple[list, list]:
    """Train and test pairs of the toy world: no pair is in both."""
    return tw.similarity_pairs(TOY_PAIRS, seed=1, split="train"), tw.similarity_pairs(360, seed=2, split="test")


PARTS = {"losses": losses, "pooling": pooling, "roles": roles, "toy": toy}


def main() -> None:
    global pairs_seen
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--pairs-seen", type=int, default=pairs_seen, help="how many pairs each training sees (default %(default)s)")
    parser.add_argument("--part", choices=PARTS, nargs="*", default=list(PARTS))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    pairs_seen = options.pairs_seen
    result = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
    result |= {
        "command": f"python tests/runs/sbert.py --seeds {options.seeds} --pairs-seen {pairs_seen} --output data/results/sbert.json",
        "versions": {p: version(p) for p in ("torch", "transformers", "sentence-transformers")},
        "weights": SHA256["BERT"],
        "recipe": {"pairs_seen": pairs_seen, "batch_size": BATCH, "learning_rate": RATE, "seeds": options.seeds},
    }
    for part in options.part:
        result |= PARTS[part](options.seeds)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result) + "\n", encoding="utf-8")
        say(part, "written")


if __name__ == "__main__":
    sys.exit(main())
