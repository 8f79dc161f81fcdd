"""The loop that every fine-tuning of the course shares: shuffle, batch, loss, step; resumable.

Written out by hand in notebooks/06_classification.ipynb and used from here afterwards: for classification,
token tasks and Sentence-BERT. Source: Devlin et al. 2019, arXiv 1810.04805, appendix A.3 (the recipe:
2 to 4 epochs, batches of 16 or 32, AdamW, warm-up over the first 10 % of the steps, linear decay).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from .pretraining import _seed, _signals_wait, diverged, learning_rate_at, load_training, save_training


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """The recipe: everything that changes the result.

    epochs         how often every example is seen
    batch_size     examples in a step
    learning_rate  its peak: it rises for the share `warmup` of the steps, then falls linearly to 0
    head_rate      the learning rate of a new head, as a multiple of learning_rate
    """

    epochs: float = 3
    batch_size: int = 16
    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    head_rate: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.epochs <= 0 or self.batch_size < 1:
            raise ValueError(f"epochs must be above 0 and batch_size at least 1, not {self.epochs} and {self.batch_size}.")


HEADS = ("classifier", "qa_outputs", "head")


def fit(
    model: torch.nn.Module,
    examples: Sequence,
    loss_of: Callable[[torch.nn.Module, list], torch.Tensor],
    options: FitOptions = FitOptions(),
    *,
    output: str | Path | None = None,
    resume: bool = False,
    save_steps: int = 50,
    callback: Callable[[dict], bool | None] | None = None,
) -> list[dict]:
    """Fine-tune `model` in place; parameters with requires_grad False stay as they are.

    examples   anything that `loss_of` understands; it gets the model and a list of batch_size of them
    loss_of    (model, examples) -> scalar loss, in train mode
    output     folder for training.pt, written every save_steps steps: a crash loses no more
    resume     go on from output/training.pt, bit for bit where it stopped (same machine)
    callback   called with every record {"step", "share", "loss", "seconds_left"}; False stops the run
    Returns the records. The model is left in eval mode and usable, also after a stop or Ctrl-C.

    Raises ValueError without examples or with another recipe than the run began with, and
    FloatingPointError when the loss or its gradient is no longer a number, and OSError on a full disk:
    the last training.pt stays.

    >>> model = torch.nn.Linear(1, 1)
    >>> points = [(x / 8, 2 * x / 8) for x in range(-8, 9)]
    >>> def squared_error(model, batch):
    ...     x, y = torch.tensor(batch).T.unsqueeze(-1)
    ...     return (model(x) - y).square().mean()
    >>> log = fit(model, points, squared_error, FitOptions(epochs=200, learning_rate=0.1, weight_decay=0))
    >>> round(model.weight.item(), 1)
    2.0
    """
    if not len(examples):
        raise ValueError("There are no examples to train on.")
    batches_an_epoch = math.ceil(len(examples) / options.batch_size)
    total = max(1, round(options.epochs * batches_an_epoch))
    torch.manual_seed(options.seed)
    optimizer = torch.optim.AdamW(_parameter_groups(model, options), fused=True)
    state, log = {"step": 0}, []
    if output is not None:
        output = Path(output)
        output.mkdir(parents=True, exist_ok=True)
    if resume:
        if output is None:
            raise ValueError("resume needs output: the folder of the run to go on with.")
        saved = load_training(output, options)
        state, log = saved["state"], saved["log"]
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"])
    began, first = time.monotonic(), state["step"]
    try:
        with _signals_wait() as asked_to_stop:
            for step, batch in _batches(examples, options, state["step"], total):
                model.train()
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * learning_rate_at(step / total, options.warmup)
                loss = loss_of(model, batch)
                optimizer.zero_grad(set_to_none=True)
                if math.isfinite(value := loss.item()):
                    loss.backward()
                    gradient = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
                if not (math.isfinite(value) and math.isfinite(gradient)):
                    raise diverged(value, step, f"Lower learning_rate (now {options.learning_rate})", output)
                optimizer.step()
                state = {"step": step + 1}
                left = (time.monotonic() - began) / (step + 1 - first) * (total - step - 1)
                record = {"step": step + 1, "share": (step + 1) / total, "loss": round(value, 4), "seconds_left": round(left)}
                log.append({name: record[name] for name in ("step", "loss")})
                stop = (callback is not None and callback(record) is False) or asked_to_stop
                if output is not None and (stop or (step + 1) % save_steps == 0 or step + 1 == total):
                    save_training(output, model, optimizer, state, log, options)
                if stop:
                    break
            if asked_to_stop:
                raise KeyboardInterrupt
    finally:
        model.eval()
    return log


def _batches(examples: Sequence, options: FitOptions, first: int, total: int) -> Iterator[tuple[int, list]]:
    """(step, examples) from step `first` on: an epoch's order follows from the seed and its number alone."""
    an_epoch = math.ceil(len(examples) / options.batch_size)
    for step in range(first, total):
        epoch, at = divmod(step, an_epoch)
        order = np.random.default_rng(_seed(options.seed, 6, epoch)).permutation(len(examples))
        yield step, [examples[i] for i in order[at * options.batch_size : (at + 1) * options.batch_size]]


def _parameter_groups(model, options: FitOptions) -> list[dict]:
    """No decay on biases and LayerNorms; new heads at their own rate; frozen parameters left out."""
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = options.learning_rate * (options.head_rate if name.startswith(HEADS) else 1.0)
        decay = options.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise ValueError("Every parameter is frozen: there is nothing to train.")
    return [{"params": params, "lr": rate, "peak": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
