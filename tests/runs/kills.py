"""Kill trainings with SIGKILL at random moments and compare the resumed runs with unbroken ones, bit for bit.

    python tests/runs/kills.py [--kills 50] [--seed 0] [--only pretrain|fit|siamese]

Three trainings (bl.pretrain, bertlab.fine_tuning.fit, bl.train_siamese) of tiny models, each with two ways of saving: after every
step, so that many kills hit the writing of a checkpoint, and at intervals. A run is killed and resumed again and again until it is
finished; then a run with another seed begins, until all kills are used up. Checked for each kill: training.pt is absent or whole, and
no more than an interval is lost. Checked for each finished run: weights, optimizer state, random state and log equal those of a run
of the same seed that nobody killed. Prints a Markdown table; exit status 1 if anything differed. Not on Windows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = 20  # steps between two checkpoints of fit and train_siamese
SECONDS = 0.6  # between two checkpoints of pretrain, which saves by the clock
SLACK = 3.0  # seconds that a step and the writing of a checkpoint may add to that, on a busy machine


# ---------------------------------------------------------------- the process that is killed


def train(task: str, output: Path, every_step: bool, seed: int) -> None:
    """Run one training in `output`, from its checkpoint if it has one; every step adds a byte to output/steps."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    resume = (output / "training.pt").exists()
    trace = os.open(output / "steps", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    register_optimizer_step_post_hook(lambda *_: os.write(trace, b"."))
    {"pretrain": pretrain, "fit": fit, "siamese": siamese}[task](output, resume, every_step, seed)
    (output / "finished").touch()


def pretrain(output: Path, resume: bool, every_step: bool, seed: int) -> None:
    import torch
    from transformers import BertConfig, BertForPreTraining

    import bertlab as bl
    from bertlab.checkpoints import load_tokenizer

    text = output / "text.txt"
    if not text.exists():
        partial = output / "text.partial"
        partial.write_text("\n\n".join("\n".join(d.sentences) for d in bl.documents()) + "\n", encoding="utf-8")
        os.replace(partial, text)
    tokenizer = load_tokenizer(bl.BERT)
    cache = bl.TextCache.build([text], tokenizer, output / "cache", held_out=0.1)
    torch.manual_seed(seed)
    model = BertForPreTraining(BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32))
    options = bl.PretrainOptions(tokens=60_000, batch_tokens=400, seed=seed, dropout=0.1)
    minutes = 0.0 if every_step else SECONDS / 60
    shares = {"evaluate_every": 0.1, "held_out_pairs": 8, "snapshots": (0.3, 1.0)}
    bl.pretrain(model, tokenizer, cache, output, options, resume=resume, save_minutes=minutes, progress=False, **shares)


def fit(output: Path, resume: bool, every_step: bool, seed: int) -> None:
    import torch

    from bertlab.fine_tuning import FitOptions, fit

    torch.manual_seed(seed)
    width = 256
    model = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Dropout(0.1), torch.nn.Linear(width, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))
    examples = [(a, b, a * b, 1.0, a - b) for a in range(-6, 7) for b in range(-6, 7)]

    def loss_of(model, batch):
        table = torch.tensor(batch)
        return (model(table[:, :4]) - table[:, 4:]).square().mean()

    fit(model, examples, loss_of, FitOptions(epochs=30, batch_size=4, seed=seed), output=output, resume=resume, save_steps=1 if every_step else STEPS)


def siamese(output: Path, resume: bool, every_step: bool, seed: int) -> None:
    import torch
    from transformers import BertConfig, BertModel

    import bertlab as bl
    from bertlab.checkpoints import load_tokenizer
    from bertlab.datasets import nli
    from bertlab.fine_tuning import FitOptions
    from bertlab.sbert import recast, siamese

    encoder = output / "encoder"
    torch.manual_seed(seed)
    BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)).save_pretrained(encoder)
    load_tokenizer(bl.BERT).save_pretrained(encoder)
    options = FitOptions(epochs=2, batch_size=8, learning_rate=1e-3, seed=seed)
    examples = recast(nli("train")[:600], "softmax")
    bl.train_siamese(siamese(str(encoder)), examples, "softmax", options, output=output, resume=resume, save_steps=1 if every_step else STEPS)


# ---------------------------------------------------------------- the killer


def start(task: str, output: Path, every_step: bool, seed: int) -> subprocess.Popen:
    output.mkdir(exist_ok=True)
    (output / "steps").unlink(missing_ok=True)
    command = [sys.executable, __file__, "--child", task, str(output), str(int(every_step)), str(seed)]
    errors = open(output / "errors.txt", "wb")
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})


def step_of(output: Path) -> int:
    """The step of the last checkpoint, 0 without one; a damaged file raises."""
    import torch

    return torch.load(output / "training.pt", weights_only=True)["state"]["step"] if (output / "training.pt").exists() else 0


def finish(process: subprocess.Popen, output: Path) -> None:
    if process.wait() != 0 or not (output / "finished").exists():
        raise SystemExit(f"{output}: the training ended with status {process.returncode}\n{(output / 'errors.txt').read_text()[-3000:]}")


def kill_once(task: str, output: Path, every_step: bool, seed: int, chance: random.Random, longest: float) -> dict | None:
    """Start or resume, let it train for a random time, kill it; None if it finished before."""
    before = step_of(output)
    process = start(task, output, every_step, seed)
    try:
        while process.poll() is None and not ((output / "steps").exists() and (output / "steps").stat().st_size):
            time.sleep(0.002)
        began = time.time()
        time.sleep(chance.uniform(0, longest))
        process.kill()
    finally:
        process.kill()
    if process.wait() != -signal.SIGKILL:
        finish(process, output)
        return None
    killed = time.time()
    lost = before + (output / "steps").stat().st_size - step_of(output)
    saved = max(began, (output / "training.pt").stat().st_mtime) if (output / "training.pt").exists() else began
    writing = (output / "training.pt.partial").exists()
    if task == "pretrain" and not every_step:
        within = killed - saved <= SECONDS + SLACK
    else:
        within = lost <= (1 if every_step else STEPS)
    return {"lost": lost, "within": within, "writing": writing}


def results_of(output: Path) -> dict:
    """All that must be equal: checkpoint, log without times and speeds, files of weights."""
    import torch

    saved = torch.load(output / "training.pt", weights_only=True)
    clock = ("tokens_per_second", "seconds")
    log = [{k: v for k, v in entry.items() if k not in clock} for entry in json.loads(saved["log"])]
    file = output / "log.jsonl"
    lines = [{k: v for k, v in json.loads(line).items() if k not in clock} for line in file.read_text().splitlines()] if file.exists() else log
    weights = {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.rglob("model.safetensors")) if "encoder" not in p.parts}
    return {"checkpoint": {k: v for k, v in saved.items() if k != "log"}, "log": log, "log.jsonl": lines, "weights": weights}


def same(a, b) -> bool:
    """Bit-identical, tensors included."""
    import torch

    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def soak(task: str, every_step: bool, kills: int, folder: Path, chance: random.Random) -> dict:
    """Kill and resume until `kills` are used up and the run in hand is finished; the figures."""
    hits, runs, identical, seed, resumes = [], 0, 0, 0, 0
    while len(hits) < kills:
        seed += 1
        whole, broken = folder / f"{task}-{every_step:d}-{seed}-whole", folder / f"{task}-{every_step:d}-{seed}-broken"
        began = time.monotonic()
        process = start(task, whole, every_step, seed)
        while process.poll() is None and not (whole / "steps").exists():
            time.sleep(0.01)
        training = time.monotonic()
        finish(process, whole)
        length = time.monotonic() - training
        for _ in range(1000):
            hit = kill_once(task, broken, every_step, seed, chance, length / 3) if len(hits) < kills else None
            if hit is None:
                break
            hits.append(hit)
            resumes += 1
        if not (broken / "finished").exists():
            finish(start(task, broken, every_step, seed), broken)
        a, b = results_of(whole), results_of(broken)
        differing = [name for name in a if not same(a[name], b[name])]
        runs, identical = runs + 1, identical + (not differing)
        print(f"{task}, seed {seed}: {len(hits)} kills, whole run {length:.1f} s, {'differs in ' + ', '.join(differing) if differing else 'identical'}"
              f" ({time.monotonic() - began:.0f} s)", flush=True)  # fmt: skip
    return {
        "training": task, "saves": "every step" if every_step else f"every {SECONDS} s" if task == "pretrain" else f"every {STEPS} steps",
        "kills": len(hits), "while writing": sum(h["writing"] for h in hits), "resumes": resumes,
        "steps lost": f"{sum(h['lost'] for h in hits)} (at most {max(h['lost'] for h in hits)})",
        "within an interval": f"{sum(h['within'] for h in hits)}/{len(hits)}", "identical": f"{identical}/{runs} runs",
        "ok": identical == runs and all(h["within"] for h in hits),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", choices=("pretrain", "fit", "siamese"))
    options = parser.parse_args()
    kinds = [(task, every) for task in ("pretrain", "fit", "siamese") for every in (True, False) if options.only in (None, task)]
    shares = [options.kills // len(kinds) + (n < options.kills % len(kinds)) for n in range(len(kinds))]
    chance, began = random.Random(options.seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills") as folder:
        rows = [soak(task, every, kills, Path(folder), chance) for (task, every), kills in zip(kinds, shares)]
    heads = [name for name in rows[0] if name != "ok"]
    print("\n| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in heads) + " |")
    print(f"\n{time.strftime('%Y-%m-%d')}, {time.monotonic() - began:.0f} s, seed {options.seed}: {'as promised' if all(r['ok'] for r in rows) else 'NOT as promised'}")
    return 0 if all(r["ok"] for r in rows) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        train(sys.argv[2], Path(sys.argv[3]), sys.argv[4] == "1", int(sys.argv[5]))
    else:
        sys.exit(main())
