"""The comparisons of notebooks/06_classification.ipynb that need several seeds: data/results/classification.json.

    python tests/runs/classification.py --output data/results/classification.json

Arms: the encoder tuned or frozen, times the vector that the head reads: BERT's pooler over [CLS] (pooler), [CLS]
itself (cls), the mean of all tokens (mean). Three seeds each; a seed draws the head, the order and the dropout.

1. The learning rate of each arm is chosen on a fifth of the training sentences, held out by their SHA-1 (seed 0).
2. Each arm is then trained on all training sentences with that rate, once a seed, and scored once on the test split.

A frozen encoder is run once, without dropout; its head is trained on the vectors. Everything else is the same loop.
The output is written after every run; a second start with the same weights goes on with what is missing.
"""

import argparse
import hashlib
import json
import time
from importlib.metadata import version
from pathlib import Path

import torch

import bertlab as bl
from bertlab.checkpoints import _load, load_tokenizer
from bertlab.classification import accuracy, classify, loss_with, new_classifier, text_vectors
from bertlab.datasets import sentiment, split_of
from bertlab.fine_tuning import FitOptions, fit

POOLINGS = ("pooler", "cls", "mean")
RATES = {"frozen": (3e-3, 1e-2, 3e-2), "tuned": (1e-4, 2e-4)}
SEEDS = 3
EPOCHS = {"tuned": 3, "frozen": 30}


def positive(encoder: str, pooling: str, rate: float, seed: int, train: list, test: list) -> list[float]:
    """Train one classifier; the probability of praise for each test sentence."""
    options = FitOptions(epochs=EPOCHS[encoder], learning_rate=rate, seed=seed)
    tokenizer = load_tokenizer(bl.BERT)
    if encoder == "tuned":
        model = new_classifier(pooling, seed=seed)
        fit(model, train, loss_with(tokenizer), options)
        return classify(model, tokenizer, [e.text for e in test])[:, 1].tolist()
    vectors = frozen_vectors(pooling)
    head = new_classifier(pooling, seed=seed).classifier

    def loss_of(head, examples):
        return torch.nn.functional.cross_entropy(head(torch.stack([vectors[e.text] for e in examples])), torch.tensor([e.label for e in examples]))

    fit(head, train, loss_of, options)
    with torch.inference_mode():
        return head(torch.stack([vectors[e.text] for e in test])).softmax(-1)[:, 1].tolist()


_frozen: dict[str, dict[str, torch.Tensor]] = {}


def frozen_vectors(pooling: str) -> dict[str, torch.Tensor]:
    """{text: vector (H,)} of every sentence, by the encoder as it was pretrained."""
    from transformers import AutoModel

    if pooling not in _frozen:
        texts = [e.text for e in sentiment()]
        vectors = text_vectors(_load(AutoModel, bl.BERT), load_tokenizer(bl.BERT), texts, pooling)
        _frozen[pooling] = dict(zip(texts, vectors))
    return _frozen[pooling]


def right(probabilities: list[float], examples: list) -> float:
    return accuracy([int(p >= 0.5) for p in probabilities], [e.label for e in examples]).share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    train, test = sentiment("train"), sentiment("test")
    choosing = [e for e in train if split_of(e.text, 0.52) == "test"]  # a fifth of the training sentences
    rest = [e for e in train if split_of(e.text, 0.52) == "train"]
    result = {
        "command": "python tests/runs/classification.py --output data/results/classification.json",
        "weights": hashlib.sha256((Path(bl.BERT) / "model.safetensors").read_bytes()).hexdigest(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "sentences": {"rest": len(rest), "choosing": len(choosing), "train": len(train), "test": len(test)},
        "epochs": EPOCHS,
        "batch_size": FitOptions().batch_size,
        "arms": [],
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    if args.output.exists() and (earlier := json.loads(args.output.read_text(encoding="utf-8")))["weights"] == result["weights"]:
        result["arms"] = [a for a in earlier["arms"] if [t["learning_rate"] for t in a["tried"]] == list(RATES[a["encoder"]])]
    arms = result["arms"]

    def write() -> None:
        args.output.write_text(json.dumps(result) + "\n", encoding="utf-8")

    done = [(a["encoder"], a["pooling"]) for a in arms]
    for encoder, pooling in [(e, p) for e in RATES for p in POOLINGS if (e, p) not in done]:
        tried = {rate: right(positive(encoder, pooling, rate, 0, rest, choosing), choosing) for rate in RATES[encoder]}
        arms.append(
            {
                "encoder": encoder,
                "pooling": pooling,
                "learning_rate": max(tried, key=tried.get),
                "tried": [{"learning_rate": r, "accuracy": round(a, 3)} for r, a in tried.items()],
                "accuracy": [],
                "positive": [],
            }
        )
        write()
    for seed in range(SEEDS):
        for arm in arms:
            if len(arm["positive"]) == seed:
                began = time.monotonic()
                run = positive(arm["encoder"], arm["pooling"], arm["learning_rate"], seed, train, test)
                arm["accuracy"].append(round(right(run, test), 3))
                arm["positive"].append([round(p, 4) for p in run])
                write()
                print(seed, arm["encoder"], arm["pooling"], arm["learning_rate"], arm["accuracy"][-1], f"{time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
