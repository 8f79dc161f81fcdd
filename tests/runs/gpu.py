"""Whether `bertlab pretrain` does on a GPU what it does on a CPU: for a machine with both.

    python tests/runs/gpu.py --tokens 400k --output gpu.json

Each row is the command line itself, in a process of its own: on the CPU, on the GPU, on the GPU stopped by SIGTERM in the
middle and resumed, and under torchrun. Compared with the CPU: the losses at equal tokens, and the speed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

CHECKOUT = Path(__file__).resolve().parent.parent.parent
TEXT = CHECKOUT / "data" / "everyday.txt"


def command(output: Path, options) -> list[str]:
    more = ["--batch-tokens", str(options.batch_tokens), "--learning-rate", "2e-4", "--save-minutes", "60", "--quiet"]
    return ["bertlab.cli", "pretrain", str(TEXT), "--start-from", "bert", "--keep-heads", "--tokens", options.tokens, "--output", str(output), *more]


def run(output: Path, options, gpu: bool = True, launcher: tuple[str, ...] = (), resume: bool = False, stop_after: int | None = None) -> list[dict]:
    """The log of one run; with `stop_after` it is stopped as soon as its log has so many lines."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), **({} if gpu else {"CUDA_VISIBLE_DEVICES": ""})}
    process = subprocess.Popen([sys.executable, *launcher, "-m", *command(output, options), *["--resume"] * resume], env=environment)
    log = output / "log.jsonl"
    while stop_after and process.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) >= stop_after:
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.02)
    status = process.wait()
    if status not in ((0, 130) if stop_after else (0,)):
        raise SystemExit(f"{output.name} ended with status {status}")
    return [json.loads(line) for line in log.read_text().splitlines()]


def losses(log: list[dict]) -> dict[int, float]:
    """tokens -> MLM + NSP loss."""
    return {r["tokens"]: r["mlm_loss"] + r["nsp_loss"] for r in log if r["event"] == "train"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="400k")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU here")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        logs = {"CPU": run(folder / "cpu", options, gpu=False), "GPU": run(folder / "gpu", options)}
        first = run(folder / "stopped", options, stop_after=4)
        logs["GPU, stopped and resumed"] = run(folder / "stopped", options, resume=True)
        logs["GPU, torchrun"] = run(folder / "torchrun", options, launcher=("-m", "torch.distributed.run", "--nproc-per-node", "1"))
        stopped_at = first[-1]["share"]
    reference = losses(logs["CPU"])
    rows = []
    for name, log in logs.items():
        mine = losses(log)
        apart = [abs(mine[t] / reference[t] - 1) for t in mine if t in reference]
        speed = max(r["tokens_per_second"] for r in log if r["event"] == "train")
        last = [r for r in log if r["event"] == "evaluation"][-1]
        row = {"run": name, "points": len(apart), "largest difference": max(apart), "tokens a second": speed, "held-out MLM loss": last["mlm_loss"]}
        rows.append(row)
        print("  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()), flush=True)
    print(f"stopped at {stopped_at:.0%} of the run, on {torch.cuda.get_device_name(0)}")
    if options.output:
        options.output.write_text(json.dumps({"gpu": torch.cuda.get_device_name(0), "stopped_at": stopped_at, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
