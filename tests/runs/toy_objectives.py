"""data/results/toy_objectives.json: does next-sentence prediction help a test on sentence pairs in the toy world?

    python tests/runs/toy_objectives.py --seeds 5 --output data/results/toy_objectives.json

For each seed and each objective (NSP, SOP, none, and no pretraining at all) a tiny BERT is trained from scratch with
the same number of tokens, then tuned on the same entailment pairs and tested on the same others. Runs go side by side,
one thread each, so a stored number does not depend on --workers. Notebook 05 loads the file.
"""

import argparse
import json
import platform
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from bertlab import pretraining as pt
from bertlab import toy_world as tw

ARMS = ("nsp", "sop", "none", "random")


def one_run(arm: str, seed: int, tokens: int, train_pairs: int, test_pairs: int) -> dict:
    """Pretrain, tune, test: what is right, by kind, and what the heads know before tuning."""
    torch.set_num_threads(1)
    train = tw.entailment_pairs(train_pairs, seed=1, split="train")
    test = tw.entailment_pairs(test_pairs, seed=2, split="test")
    questions = tw.cloze_questions(600)
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = tw.train(seed, "none" if arm == "random" else arm, 0 if arm == "random" else tokens, output=folder)
        texts = tw.write_text(Path(folder) / "text")
        cache = pt.TextCache.build(texts, tokenizer, Path(folder) / "cache")
        on = {}  # the same held-out pairs for every arm
        for objective in ("nsp", "sop"):
            examples = pt.held_out_examples(cache, tw.recipe(objective=objective).pairs, 1000)
            on[objective] = pt.evaluate(model, tokenizer, cache, examples)
    right = tw.score_entailment(tw.tune_entailment(model, tokenizer, train, seed), tokenizer, test)
    by_kind = {kind: round(float(np.mean([r for r, p in zip(right, test) if p.kind == kind])), 4) for kind in dict.fromkeys(p.kind for p in test)}
    return {
        "arm": arm,
        "seed": seed,
        "accuracy": round(float(right.mean()), 4),
        "by_kind": by_kind,
        "cloze": {kind: round(share, 4) for kind, share in tw.score_cloze(model, tokenizer, questions).items()},
        "mlm_loss": on["nsp"]["mlm_loss"],
        "next_pairs": on["nsp"]["nsp_accuracy"],
        "order_pairs": on["sop"]["nsp_accuracy"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=tw.TOKENS)
    parser.add_argument("--train-pairs", type=int, default=600)
    parser.add_argument("--test-pairs", type=int, default=800)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    told = {name: getattr(options, name) for name in ("seeds", "tokens", "train_pairs", "test_pairs")}
    arguments = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in told.items())
    result = {
        "command": f"python tests/runs/toy_objectives.py {arguments} --output data/results/toy_objectives.json",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        **told,
        "runs": [],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.workers) as pool:
        sizes = (options.tokens, options.train_pairs, options.test_pairs)
        jobs = [pool.submit(one_run, arm, seed, *sizes) for seed in range(options.seeds) for arm in ARMS]
        for job in jobs:
            result["runs"].append(job.result())
            print(json.dumps(result["runs"][-1]), flush=True)
            options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
