"""The controls in data/models/bertlab-mini/controls.json: what pretraining does to sentence vectors.

bertlab-mini descends from a model that was tuned for similarity, so a plain before and after would mislead. This
trains one more arm from the same start and scores every arm the same way; the commands are in controls.json.

    python tests/runs/controls.py contrastive TEXTS ... --cache CACHE --tokens N --output FOLDER
    python tests/runs/controls.py score "NAME=TOKENS=FOLDER" ... --note FILE --output controls.json

contrastive  unsupervised SimCSE (Gao et al. 2021, arXiv 2104.08821, section 3): a segment and itself are a positive
             pair, dropout makes the two differ, the batch gives the negatives; the text and its order are those that
             MLM and NSP see with the same options
score        Spearman of [CLS], mean and max on the test pairs of data/similarity.csv, and every pair's cosine
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

import bertlab as bl
from bertlab import cli
from bertlab import pretraining as pt
from bertlab.checkpoints import load_tokenizer
from bertlab.mlm import IGNORE
from bertlab.pooling import cosine, pool
from bertlab.sbert import sentence_vectors

POOLING = ("cls", "mean", "max")


def segments(rows: np.ndarray) -> np.ndarray:
    """Every segment A and B of the pairs as an example of its own."""
    parts = np.concatenate([rows[:, :2], rows[rows[:, 3] > rows[:, 2], 2:4]])
    alone = np.tile([0, 0, 0, 0, IGNORE, pt.PAIR_KINDS.index("single")], (len(parts), 1))
    alone[:, :2] = parts
    return alone


def train_contrastive(arguments: list[str], scale: float = 20.0, learning_rate: float = 3e-5) -> None:
    """The options are those of `bertlab pretrain`: the same ones give the same text in the same order."""
    options = cli._parser().parse_args(["pretrain", *arguments])
    recipe, parent = cli.recipe_of(options), bl.SBERT
    tokenizer = load_tokenizer(parent)
    cache = pt.TextCache.build(options.texts, tokenizer, options.cache, options.held_out, dict(options.hold_out_documents))
    model = pt.start_from(parent, cache, seed=recipe.seed).train()
    if recipe.bfloat16:
        model.set_attn_implementation("eager")  # as in pretraining
    optimizer = torch.optim.AdamW(model.bert.parameters(), lr=learning_rate)
    torch.manual_seed(recipe.seed)
    seen, documents = 0, np.flatnonzero(cache.documents[:, 3] == 0)
    for rows, _ in pt.training_batches(cache, documents, recipe, {"stage": 0, "epoch": 0, "index": 0, "tokens": 0}):
        if seen >= recipe.tokens:
            break
        batch = pt.collate(cache, segments(rows), tokenizer, seed=0)
        ids = torch.where(batch["labels"] != IGNORE, batch["labels"], batch["input_ids"])  # nothing hidden
        mask = batch["attention_mask"]
        with torch.autocast("cpu", torch.bfloat16, recipe.bfloat16):
            hidden = [model.bert(ids, attention_mask=mask).last_hidden_state.float() for _ in range(2)]  # dropout differs
        twice = [torch.nn.functional.normalize(pool(h, mask, "mean"), dim=-1) for h in hidden]
        scores = scale * twice[0] @ twice[1].T  # (B, B): the diagonal is each segment with itself
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * pt.learning_rate_at(seen / recipe.tokens, recipe.warmup)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += int(pt.lengths_of(rows).sum())
    pt.save_checkpoint(model.eval(), tokenizer, options.output)
    print(f"{seen} tokens of text, last loss {loss.item():.3f}: {options.output}")


def score(folder: str) -> dict:
    """{pooling: {spearman, cosines}} on the test pairs, in their order."""
    pairs = bl.similarity_pairs("test")
    result = {}
    for mode in POOLING:
        a, b = (sentence_vectors([getattr(p, side) for p in pairs], mode, model=folder) for side in ("sentence_a", "sentence_b"))
        cosines = cosine(a, b).tolist()
        result[mode] = {"spearman": round(float(spearmanr(cosines, [p.grade for p in pairs]).statistic), 4), "cosines": [round(c, 4) for c in cosines]}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("contrastive", add_help=False)
    scoring = commands.add_parser("score")
    scoring.add_argument("points", nargs="+", metavar="NAME=TOKENS=FOLDER")
    scoring.add_argument("--note", type=Path, required=True, help="JSON with the commands that trained the arms: copied into the output")
    scoring.add_argument("--output", type=Path, required=True)
    args, rest = parser.parse_known_args()
    if args.command == "contrastive":
        return train_contrastive(rest)
    points = []
    for point in args.points:
        name, tokens, folder = point.split("=", 2)
        points.append({"arm": name, "tokens": int(tokens), "pooling": score(folder)})
        print(name, tokens, {mode: values["spearman"] for mode, values in points[-1]["pooling"].items()})
    scores = {**json.loads(args.note.read_text(encoding="utf-8")), "points": points}
    args.output.write_text(json.dumps(scores) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
