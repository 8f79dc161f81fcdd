"""The pretraining step, MLM + NSP: bertlab.pretraining beside transformers' BertForPreTraining, by Trainer and in a plain loop.

The three sides train the same architecture on the same batches of the same text, with the same padding, threads, optimiser, schedule
and clipping, in float32 without dropout. Each lives in a process of its own, and they take turns. What differs is each side's own code:

    bertlab  reads tokens from its memory-mapped cache, masks with bl.mask_tokens, computes the MLM head at the masked tokens only,
             tells glibc to keep freed memory, reads the losses of every step (it stops at one that is no number)
    trainer  is given the tokenised examples as lists; DataCollatorForLanguageModeling pads and masks, the loss is over all positions
    loop     the same collator and model, and the seven lines that one would write: forward, backward, clip, step, schedule

The losses are compared in another run, with the same masks and without short examples (PairOptions.short is 0): a batch of single
sentences has no pair, and transformers' mean over none is NaN (its gradient is 0, so it trains on).

Seconds are taken at the beginning of the encoder's forward pass, on all sides, after some steps to warm up: no start and no saving.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from . import Options, Row, interleave, quartiles, ratio

SIDES = ("bertlab", "trainer", "loop")
WINDOW = 20  # steps over which bertlab.pretrain averages a loss before it records it


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is trained, on what, and how long.

    name    "tiny": the network, text and recipe of notebook 05. "mini": bertlab-mini's network, data/everyday.txt, the recipe's defaults
    layers  0: the configuration's own number
    texts   documents of the little world; the mini reads data/everyday.txt
    warm    steps before the first that is timed, in every round
    steps   steps timed in a round
    curve   steps of the run whose losses are compared: whole windows
    rounds  if the caller does not say
    """

    name: str
    batch_tokens: int
    layers: int
    texts: int
    warm: int
    steps: int
    curve: int
    rounds: int


FULL = (Shape("tiny", 768, 0, 4000, 40, 300, 2000, 7), Shape("mini", 2304, 0, 0, 2, 5, 60, 5))
QUICK = (Shape("tiny", 768, 0, 200, 1, 2, WINDOW, 2), Shape("mini", 128, 1, 0, 1, 2, 0, 2))


# ---------------------------------------------------------------- what must be computed


def training_flops(config, rows: int, length: int, asked: int) -> int:
    """The matrix products of one training step of a BertForPreTraining, forward and backward: 2 a multiplication and addition.

    config  a BertConfig: L layers, H wide, I inside, V pieces
    rows    B, sequences; length: T, positions of each, padding included
    asked   positions at which the MLM head is computed: B * T for transformers, the masked ones for bertlab

    forward  L * (B T (8 H^2 + 4 H I)   queries, keys, values, output; the two layers of the feed-forward network
                  + 4 B T^2 H)          scores and their weighted sum
             + asked (2 H^2 + 2 H V)    the MLM head's transformation and the vocabulary
             + B (2 H^2 + 4 H)          pooler and NSP head
    Each product has two in the backward pass, for its two factors: three times that. Embeddings, norms, softmax, GELU and the
    optimiser have no matrix products and are not counted.

    >>> from transformers import BertConfig
    >>> mini = BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
    >>> round(training_flops(mini, 18, 128, 18 * 128) / training_flops(mini, 18, 128, 346), 2)
    1.78
    """
    h, inside, tokens = config.hidden_size, config.intermediate_size, rows * length
    layer = tokens * (8 * h * h + 4 * h * inside) + 4 * tokens * length * h
    heads = asked * (2 * h * h + 2 * h * config.vocab_size) + rows * (2 * h * h + 4 * h)
    return 3 * (config.num_hidden_layers * layer + heads)


LARGE = ((2304, 384, 1536), (2304, 1536, 384), (1024, 1024, 1024), (2048, 2048, 2048), (4096, 1024, 4096))


def matmul_peak(shapes: Sequence[tuple[int, int, int]] = LARGE, repeats: int = 5) -> float:
    """The best float32 matmul seen over a few shapes (m, k, n): FLOP a second."""
    best = 0.0
    for m, k, n in shapes:
        a, b = torch.rand(m, k), torch.rand(k, n)
        out = a @ b
        for _ in range(repeats):
            began = time.perf_counter()
            torch.mm(a, b, out=out)
            best = max(best, 2 * m * k * n / (time.perf_counter() - began))
    return best


# ---------------------------------------------------------------- what all sides share


@dataclasses.dataclass(frozen=True)
class Ground:
    """The same for all sides: tokenizer, configuration, text cache, recipe."""

    tokenizer: object
    config: object
    cache: object
    recipe: object


@lru_cache
def ground(shape: Shape) -> Ground:
    """Once a process; the cache's folder goes with the process."""
    from .. import pretraining, toy_world
    from ..checkpoints import data_folder, load_tokenizer, resolve

    folder = tempfile.TemporaryDirectory()
    if shape.name == "tiny":
        paths = toy_world.write_text(Path(folder.name) / "text", shape.texts)
        tokenizer = toy_world.train_tokenizer(paths)
        config, recipe = toy_world.tiny_config(tokenizer), toy_world.recipe(batch_tokens=shape.batch_tokens)
    else:
        from transformers import BertConfig

        paths, mini = [data_folder() / "everyday.txt"], resolve("BERT")
        tokenizer, config = load_tokenizer(mini), BertConfig.from_pretrained(mini)
        config.num_hidden_layers = shape.layers or config.num_hidden_layers
        recipe = pretraining.PretrainOptions(tokens=10**9, batch_tokens=shape.batch_tokens)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    cache = pretraining.TextCache.build(paths, tokenizer, Path(folder.name) / "cache")
    cache.folder = folder  # lives as long as the cache
    return Ground(tokenizer, config, cache, recipe)


def batches_of(at: Ground, steps: int) -> list[np.ndarray]:
    """The rows of the first `steps` batches, as bertlab.pretrain reads them."""
    from ..pretraining import training_batches

    documents = np.flatnonzero(at.cache.documents[:, 3] == 0)
    start = {"stage": 0, "epoch": 0, "index": 0, "tokens": 0}
    everything = dataclasses.replace(at.recipe, tokens=10**12)
    return [rows for rows, _ in islice(training_batches(at.cache, documents, everything, start), steps)]


def new_model(at: Ground):
    """A BertForPreTraining with the same random weights on every side."""
    from transformers import BertForPreTraining

    torch.manual_seed(0)
    return BertForPreTraining(at.config).train()


def examples_of(at: Ground, rows: np.ndarray) -> list[dict]:
    """Rows as transformers' collator takes them, with the mask of special tokens that it otherwise computes itself."""
    examples, ids = [], at.tokenizer
    for a0, a1, b0, b1, label, _ in rows:
        a, b = at.cache.tokens[a0:a1].tolist(), at.cache.tokens[b0:b1].tolist()
        second = [*b, ids.sep_token_id] if b else []
        examples.append({
            "input_ids": [ids.cls_token_id, *a, ids.sep_token_id, *second],
            "token_type_ids": [0] * (len(a) + 2) + [1] * len(second),
            "special_tokens_mask": [1, *[0] * len(a), 1, *[0] * len(b), *[1] * bool(b)],
            "next_sentence_label": int(label),
        })
    return examples


# ---------------------------------------------------------------- the three sides


def train(side: str, shape: Shape, steps: int, same_masks: bool = False) -> tuple[list[float], list[float]]:
    """Train a new model: the times at which each step's forward pass began (steps,), and the loss of each window of WINDOW steps.

    same_masks  so that the losses can be compared: the peers get bertlab's masks instead of drawing their own, and every example is a pair
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    at = ground(shape)
    if same_masks:
        at = dataclasses.replace(at, recipe=dataclasses.replace(at.recipe, pairs=dataclasses.replace(at.recipe.pairs, short=0.0)))
    batches, model, began = batches_of(at, steps), new_model(at), []
    model.bert.register_forward_pre_hook(lambda *_: began.append(time.perf_counter()))
    with tempfile.TemporaryDirectory() as output:
        losses = {"bertlab": _bertlab, "trainer": _trainer, "loop": _loop}[side](at, model, batches, Path(output), same_masks)
    return began, losses


def _bertlab(at: Ground, model, batches: list[np.ndarray], output: Path, same_masks: bool) -> list[float]:
    from ..pretraining import lengths_of, pretrain

    options = dataclasses.replace(at.recipe, tokens=int(sum(lengths_of(rows).sum() for rows in batches)))
    log = pretrain(model, at.tokenizer, at.cache, output, options, save_minutes=1e9, evaluate_every=1.0, held_out_pairs=0, progress=False)
    return [entry["mlm_loss"] + entry["nsp_loss"] for entry in log if entry["event"] == "train"]


def _trainer(at: Ground, model, batches: list[np.ndarray], output: Path, same_masks: bool) -> list[float]:
    from transformers import Trainer, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    loader = _loader(at, batches, same_masks)

    class SameBatches(Trainer):
        def get_train_dataloader(self):
            return self.accelerator.prepare(loader)

        def create_scheduler(self, num_training_steps: int, optimizer=None):
            self.lr_scheduler = _schedule(at, batches, optimizer or self.optimizer)
            return self.lr_scheduler

    recipe, steps = at.recipe, len(batches)
    arguments = TrainingArguments(
        str(output), max_steps=steps, use_cpu=not torch.cuda.is_available(), disable_tqdm=True, report_to=[], save_strategy="no",
        logging_strategy="steps" if same_masks else "no", logging_steps=WINDOW, dataloader_pin_memory=False,
        learning_rate=recipe.learning_rate, max_grad_norm=1.0, weight_decay=recipe.weight_decay, adam_beta1=0.9, adam_beta2=0.98, adam_epsilon=1e-6, optim="adamw_torch_fused",
    )  # fmt: skip
    trainer = SameBatches(model, arguments, train_dataset=loader.dataset)
    trainer.pop_callback(PrinterCallback)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _loop(at: Ground, model, batches: list[np.ndarray], output: Path, same_masks: bool) -> list[float]:
    from ..pretraining import parameter_groups

    losses: list[float] = []
    optimizer = torch.optim.AdamW(parameter_groups(model, at.recipe), betas=(0.9, 0.98), eps=1e-6, fused=True)
    schedule = _schedule(at, batches, optimizer)
    for batch in _loader(at, batches, same_masks):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if same_masks:
            losses.append(loss.item())
    return [statistics.fmean(losses[i : i + WINDOW]) for i in range(0, len(losses) - WINDOW + 1, WINDOW)]


def _schedule(at: Ground, batches: list[np.ndarray], optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    """bertlab.pretrain's learning rate at each step, for a peer: it follows the tokens that were read, not the steps."""
    from ..pretraining import learning_rate_at, lengths_of

    read = np.cumsum([0, *(lengths_of(rows).sum() for rows in batches)])  # tokens before each step, and all of them
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_at(read[step] / read[-1], at.recipe.warmup))


def _loader(at: Ground, batches: list[np.ndarray], same_masks: bool):
    """A DataLoader of exactly these batches, with transformers' own collator."""
    from torch.utils.data import DataLoader
    from transformers import DataCollatorForLanguageModeling

    if same_masks:
        return DataLoader(range(len(batches)), batch_size=None, collate_fn=lambda step: _collated(at, batches, step))
    examples, places = [], []
    for rows in batches:
        places.append(list(range(len(examples), len(examples) + len(rows))))
        examples += examples_of(at, rows)
    return DataLoader(examples, batch_sampler=places, collate_fn=DataCollatorForLanguageModeling(at.tokenizer, mlm_probability=at.recipe.mask))


def _collated(at: Ground, batches: list[np.ndarray], step: int) -> dict[str, torch.Tensor]:
    """The batch of a step with the masks that bertlab.pretrain draws for it."""
    from ..pretraining import _seed, collate

    return collate(at.cache, batches[step], at.tokenizer, _seed(at.recipe.seed, 1, step, 0), at.recipe.mask, at.recipe.whole_words)


# ---------------------------------------------------------------- the measurement


@contextmanager
def processes(quick: bool) -> Iterator[dict[str, Callable[..., Future]]]:
    """A process for each side, so that none profits from what another asked of the allocator; in quick runs all share this one."""
    pools: dict[str, Executor] = {} if quick else {side: ProcessPoolExecutor(1, get_context("spawn")) for side in SIDES}
    try:
        yield {side: pools[side].submit if pools else _here for side in SIDES}
    finally:
        for pool in pools.values():
            pool.shutdown()


def _here(work: Callable, *arguments) -> Future:
    done = Future()
    done.set_result(work(*arguments))
    return done


def timed(side: str, shape: Shape, threads: int) -> float:
    """Seconds of shape.steps steps."""
    torch.set_num_threads(threads)
    began, _ = train(side, shape, shape.warm + shape.steps + 1)
    return began[-1] - began[shape.warm]


def curve(side: str, shape: Shape, threads: int) -> list[float]:
    """The loss of each window."""
    torch.set_num_threads(threads)
    return train(side, shape, shape.curve, same_masks=True)[1]


def peak(threads: int, quick: bool) -> float:
    torch.set_num_threads(threads)
    return matmul_peak(LARGE[:1] if quick else LARGE)


def rows(options: Options) -> Iterator[Row]:
    """For each shape: tokens a second beside both peers, the share of the matmul peak, and how far the losses lie apart."""
    with processes(options.quick) as on:
        for shape in QUICK if options.quick else FULL:
            yield from _rows_of(shape, options, on)


def _rows_of(shape: Shape, options: Options, on: dict[str, Callable[..., Future]]) -> Iterator[Row]:
    at, peaks = ground(shape), []
    work, asked_share = _work(at, shape)

    def turn(side: str) -> float:
        if side == "bertlab":
            peaks.append(on[side](peak, options.cores, options.quick).result())
        return on[side](timed, side, shape, options.cores).result()

    seconds = interleave({side: lambda side=side: turn(side) for side in SIDES}, options.rounds_or(shape.rounds), warm_up=0)  # each warms up itself
    predicted = work["loop"] / work["bertlab"]
    speeds = {f"{side}_tokens_per_s": work["tokens"] / statistics.median(seconds[side]) for side in SIDES}
    note = (
        f"vocabulary {at.config.vocab_size}, {at.config.num_hidden_layers} layers, {at.config.hidden_size} wide, batches of {shape.batch_tokens} tokens, "
        f"{asked_share:.0%} of the positions asked for; the FLOP count predicts {predicted:.2f}"
    )
    for peer in ("trainer", "loop"):
        bar = 0.8 * predicted
        if shape.name == "mini" and peer == "trainer":
            bar = max(bar, 1.5)
        bar = None if options.quick else round(bar, 3)
        yield ratio("pretraining", f"{shape.name}: bertlab / {peer}, tokens a second", seconds[peer], seconds["bertlab"], at_least=bar, sides=speeds, note=note)
    yield _share_of_peak(shape, options, work["bertlab"], seconds["bertlab"], max(peaks))
    if shape.curve:
        yield _curves(shape, options, on)


def _work(at: Ground, shape: Shape) -> tuple[dict[str, int], float]:
    """FLOP and tokens of the timed steps, and the share of positions asked for; the masks are bertlab's, the peers' differ by chance."""
    from ..mlm import IGNORE
    from ..pretraining import lengths_of

    work, places = {"bertlab": 0, "loop": 0, "tokens": 0, "asked": 0}, 0
    batches = batches_of(at, shape.warm + shape.steps)
    for step in range(shape.warm, len(batches)):
        labels = _collated(at, batches, step)["labels"]
        asked = int((labels != IGNORE).sum())
        work["bertlab"] += training_flops(at.config, *labels.shape, asked)
        work["loop"] += training_flops(at.config, *labels.shape, labels.numel())
        work["tokens"] += int(lengths_of(batches[step]).sum())
        work["asked"] += asked
        places += labels.numel()
    return work, work["asked"] / places


def _share_of_peak(shape: Shape, options: Options, flops: int, seconds: list[float], best: float) -> Row:
    low, middle, high = quartiles([flops / s / best for s in seconds])
    sides = {"bertlab_gflop_per_s": flops / statistics.median(seconds) / 1e9, "matmul_gflop_per_s": best / 1e9}
    bar = 0.6 if shape.name == "mini" and not options.quick else None
    what = f"{shape.name}: bertlab's matrix products / the best float32 matmul of this run, FLOP a second"
    return Row("pretraining", what, middle, low, high, len(seconds), at_least=bar, sides=sides)


def _curves(shape: Shape, options: Options, on: dict[str, Callable[..., Future]]) -> Row:
    """How far the losses lie apart over tenths of the run; beside it the same over windows, where rounding alone shows: bertlab with other threads."""
    runs = (("bertlab", options.cores), ("trainer", options.cores), ("bertlab", 1 if options.cores > 1 else 2))
    ours, theirs, again = (np.array(on[side](curve, side, shape, threads).result()) for side, threads in runs)
    steps = max(1, len(ours) // 10)  # windows in a tenth
    tenths = [abs(a.mean() / b.mean() - 1) for a, b in zip(*(np.split(x, range(steps, len(x), steps)) for x in (ours, theirs)), strict=True)]
    low, middle, high = quartiles(tenths)
    sides = {"bertlab_first": ours[0], "trainer_first": theirs[0], "bertlab_last": ours[-1], "trainer_last": theirs[-1], "median": middle}
    sides |= {f"largest_over_{WINDOW}_steps": abs(ours / theirs - 1).max(), f"bertlab_with_{runs[2][1]}_threads_over_{WINDOW}_steps": abs(ours / again - 1).max()}
    note = f"the largest of {len(tenths)} means over {steps * WINDOW} steps, the same masks and schedule; low and high: their quartiles"
    what = f"{shape.name}: |loss of bertlab / loss of Trainer - 1| at equal tokens"
    return Row("pretraining", what, float(max(tenths)), low, high, 1, at_most=0.02, sides={name: float(value) for name, value in sides.items()}, note=note)
