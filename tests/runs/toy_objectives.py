"""data/results/toy_objectives.json: does next-sentence prediction help a test on sentence pairs in the toy world?

    python tests/runs/toy_objectives.py --seeds 5 --output data/results/toy_objectives.json

For each seed and each objective (NSP, SOP, none, and no pretraining at all) a tiny BERT is trained from scratch with
the same number of tokens, then tuned on the same entailment pairs and tested on the same others. About 2 minutes a
seed on 2 cores. Notebook 05 loads the file.
"""

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from bertlab import pretraining as pt
from bertlab import toy_world as tw

ARMS = ("nsp", "sop", "none", "random")


def one_run(arm: str, seed: int, tokens: int, train: list, test: list, questions: list) -> dict:
    """Pretrain, tune, test: what is right, by kind, and what the heads know before tuning."""
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = tw.train(seed, "none" if arm == "random" else arm, 0 if arm == "random" else tokens, output=folder)
        texts = tw.write_text(Path(folder) / "text")
        cache = pt.TextCache.build(texts, tokenizer, Path(folder) / "cache")
        heads = {}
        for objective in ("nsp", "sop"):
            examples = pt.held_out_examples(cache, tw.recipe(objective=objective).pairs, 1000)
            scores = pt.evaluate(model, tokenizer, cache, examples)
            heads[objective] = scores["nsp_accuracy"]
            mlm_loss = scores["mlm_loss"]
    right = tw.score_entailment(tw.tune_entailment(model, tokenizer, train, seed), tokenizer, test)
    by_kind = {kind: round(float(np.mean([r for r, p in zip(right, test) if p.kind == kind])), 4) for kind in dict.fromkeys(p.kind for p in test)}
    return {
        "arm": arm,
        "seed": seed,
        "accuracy": round(float(right.mean()), 4),
        "by_kind": by_kind,
        "cloze": {kind: round(share, 4) for kind, share in tw.score_cloze(model, tokenizer, questions).items()},
        "mlm_loss": mlm_loss,
        "next_pairs": heads["nsp"],
        "order_pairs": heads["sop"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=tw.TOKENS)
    parser.add_argument("--train-pairs", type=int, default=400)
    parser.add_argument("--test-pairs", type=int, default=800)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    train = tw.entailment_pairs(options.train_pairs, seed=1, split="train")
    test = tw.entailment_pairs(options.test_pairs, seed=2, split="test")
    questions = tw.cloze_questions(600)
    runs = []
    for seed in range(options.seeds):
        for arm in ARMS:
            runs.append(one_run(arm, seed, options.tokens, train, test, questions))
            print(json.dumps(runs[-1]), flush=True)
            result = {
                "command": f"python tests/runs/toy_objectives.py --seeds {options.seeds} --tokens {options.tokens} --train-pairs {options.train_pairs} --test-pairs {options.test_pairs} --output data/results/toy_objectives.json",
                "versions": {"python": platform.python_version(), "torch": torch.__version__},
                "tokens": options.tokens,
                "train_pairs": options.train_pairs,
                "test_pairs": options.test_pairs,
                "runs": runs,
            }
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
