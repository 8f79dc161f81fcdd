"""Pretraining with both objectives, MLM and NSP: from text files to a plain transformers checkpoint.

Taught in notebooks/05_pretraining.ipynb; `bertlab pretrain` runs it from the command line, and
bertlab-mini was made with it. It reads in the order in which things happen:

    text files -> TextCache -> sentence pairs -> batches -> PretrainingLoss -> checkpoint

Source: Devlin et al. 2019, arXiv 1810.04805, sections 3.1 and A.1, A.2; sentence order: Lan et al. 2020,
arXiv 1909.11942, section 3.1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gzip
import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .inputs import number, short, whole
from .mlm import IGNORE, mask_tokens

PAIR_KINDS = ("next", "other source", "same source", "same document", "swapped", "single")


# ---------------------------------------------------------------- text files -> memory-mapped cache


def read_documents(path: str | Path) -> Iterator[list[str]]:
    """Yield documents, each a list of sentences, from BERT's own layout (.txt or .gz).

    One sentence a line, a blank line between documents.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "two.txt"
    >>> _ = file.write_text("A cat sat.\\nIt slept.\\n\\nRain fell.\\n")
    >>> list(read_documents(file))
    [['A cat sat.', 'It slept.'], ['Rain fell.']]
    """
    opener = gzip.open if str(path).endswith(".gz") else open
    document: list[str] = []
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if sentence := line.strip():
                document.append(sentence)
            elif document:
                yield document
                document = []
    if document:
        yield document


def is_held_out(document: Sequence[str], fraction: float) -> bool:
    """Whether a document belongs to the held-out text: decided by the SHA-1 of its words, so for ever.

    >>> is_held_out(["A cat sat."], 0.0), is_held_out(["A cat sat."], 1.0)
    (False, True)
    """
    return int(hashlib.sha1("\n".join(document).encode()).hexdigest()[:8], 16) < fraction * 2**32


class TextCache:
    """Tokenised text on disk, memory-mapped: the corpus may be larger than memory.

    tokens         (N,)   uint16 (uint32 for vocabularies above 65,536) token ids, no special tokens
    continues      (N,)   bool, True where a piece continues the word before it (##ing)
    sentences      (S+1,) int64, sentence i is tokens[sentences[i]:sentences[i + 1]]
    documents      (D, 4) int64: first sentence, last sentence + 1, source, held out (0 or 1)
    sources        the text files' names
    """

    def __init__(self, folder: str | Path):
        try:
            folder = Path(folder)
            self.sources: list[str] = json.loads((folder / "cache.json").read_text())["sources"]
            for name in ("tokens", "continues", "sentences", "documents"):
                setattr(self, name, np.load(folder / f"{name}.npy", mmap_mode="r"))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"There is no text cache in {short(str(folder), 200)} ({str(error):.100}): make one with TextCache.build.") from None

    @classmethod
    def build(
        cls,
        paths: Sequence[str | Path],
        tokenizer,
        folder: str | Path,
        held_out: float = 0.05,
        held_out_documents: dict[str, Sequence[int]] | None = None,
        max_sentence_tokens: int = 254,
    ) -> TextCache:
        """Tokenise `paths` once into `folder`; a second call with the same input reads what is there.

        held_out            share of the documents kept for evaluation, chosen by `is_held_out`
        held_out_documents  {file name: document numbers} to keep in addition; such a file's other
                            documents are all trained on (whole books are kept this way)
        """
        folder, named = Path(folder), held_out_documents or {}
        key = {
            "sources": [Path(p).name for p in paths],
            "sha256": [hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in paths],
            "vocabulary": hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest(),
            "held_out": [held_out, {name: sorted(numbers) for name, numbers in sorted(named.items())}],
            "max_sentence_tokens": max_sentence_tokens,
        }
        done = folder / "cache.json"
        if done.exists() and json.loads(done.read_text()) == json.loads(json.dumps(key)):
            return cls(folder)
        folder.mkdir(parents=True, exist_ok=True)
        done.unlink(missing_ok=True)
        dtype = np.uint16 if len(tokenizer) < 2**16 else np.uint32
        pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        is_continuation = np.array([piece.startswith("##") for piece, _ in pieces])
        lengths, documents, count = [], [], 0
        with open(folder / "tokens.raw", "wb") as raw:
            for source, path in enumerate(paths):
                for number, document in enumerate(read_documents(path)):
                    name = Path(path).name
                    kept = number in named[name] if name in named else is_held_out(document, held_out)
                    encoded = tokenizer(document, add_special_tokens=False, truncation=True, max_length=max_sentence_tokens)["input_ids"]
                    encoded = [ids for ids in encoded if ids]
                    if not encoded:  # nothing but signs that the tokenizer removes
                        continue
                    raw.write(np.array([i for ids in encoded for i in ids], dtype).tobytes())
                    lengths += [len(ids) for ids in encoded]
                    documents.append((count, count + len(encoded), source, int(kept)))
                    count += len(encoded)
        if not count:
            raise ValueError(f"There is no text in {', '.join(map(str, paths))}: one sentence a line, a blank line between documents.")
        tokens = np.fromfile(folder / "tokens.raw", dtype)
        np.save(folder / "tokens.npy", tokens)
        np.save(folder / "continues.npy", is_continuation[tokens])
        np.save(folder / "sentences.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        np.save(folder / "documents.npy", np.array(documents, np.int64))
        (folder / "tokens.raw").unlink()
        done.write_text(json.dumps(key))
        return cls(folder)


# ---------------------------------------------------------------- documents -> sentence pairs


@dataclasses.dataclass(frozen=True)
class PairOptions:
    """How sentence pairs are made.

    max_length      tokens in a pair, [CLS] and the [SEP]s included
    objective       "nsp" (B follows or is random), "sop" (B follows or the two are swapped), "none"
    same_source     share of the random Bs that come from the same source, so genre gives nothing away
    short           share of examples that are short: one sentence alone, or two single sentences
    """

    max_length: int = 128
    objective: str = "nsp"
    same_source: float = 0.5
    short: float = 0.1

    def __post_init__(self):
        if isinstance(self.objective, (list, dict)) or self.objective not in ("nsp", "sop", "none"):
            raise ValueError(f"objective is 'nsp', 'sop' or 'none', not {short(self.objective)}.")
        if isinstance(self.max_length, bool) or not isinstance(self.max_length, int) or not 16 <= self.max_length <= 512:
            raise ValueError(f"max_length must lie between 16 and 512, not {short(self.max_length)}.")
        number(self.same_source, "same_source", 0, 1), number(self.short, "short", 0, 1)


def make_pairs(cache: TextCache, documents: np.ndarray, options: PairOptions, seed: int) -> np.ndarray:
    """Cut documents into examples, fresh for every seed.

    documents  indices into cache.documents
    Returns    (E, 6) int64, one example a row: a_start, a_end, b_start, b_end (token positions; B is
               empty for a single segment), label (NSP's order: 0 = B follows A, 1 = it does not,
               -100 = no second segment), kind (index into PAIR_KINDS)
    """
    rng = np.random.default_rng(seed)
    rows = cache.documents[documents]
    by_source = {s: rows[rows[:, 2] == s] for s in np.unique(rows[:, 2])}
    starts = cache.sentences
    examples = []

    def span(first: int, room: int, end: int) -> tuple[int, int]:
        """Whole sentences from `first` that fill `room` tokens; at least one, cut if it is too long."""
        last = first + 1
        while last < end and starts[last + 1] - starts[first] <= room:
            last += 1
        return last, min(int(starts[last]), int(starts[first]) + room)

    def random_start(source: int, own: np.ndarray) -> tuple[np.ndarray, int, int]:
        """A sentence of another document: of the same source for half of the negatives."""
        same = len(by_source) == 1 or rng.random() < options.same_source
        for _ in range(10):
            pool = by_source[source] if same else rows
            other = pool[rng.integers(len(pool))]
            if other[0] != own[0] and (same or other[2] != source):
                break
        kind = 2 if other[2] == source else 1
        return other, int(rng.integers(other[0], other[1])), kind

    def sentence(number: int, room: int) -> tuple[int, int]:
        """One sentence alone, cut at `room` tokens."""
        return number + 1, min(int(starts[number + 1]), int(starts[number]) + room)

    follows = random = 0  # how many of each so far: kept level
    for document in rows[rng.permutation(len(rows))]:
        at, end, source = int(document[0]), int(document[1]), int(document[2])
        while at < end:
            short = rng.random() < options.short
            alone = options.objective == "none" or (short and rng.random() < 0.5)
            room = options.max_length - (2 if alone else 3)
            if short:
                after, stop = sentence(at, room if alone else room // 2)
            elif alone:
                after, stop = span(at, room, end)
            else:
                rest = int(starts[end] - starts[at])  # leave something of the document for B
                after, stop = span(at, int(rng.integers(room // 4, 3 * room // 4)) if rest > room else rest // 2 + 1, end)
            a = (int(starts[at]), stop)
            room_b = room - (a[1] - a[0])
            if alone or (after == end and options.objective == "sop"):
                examples.append((*a, 0, 0, IGNORE, PAIR_KINDS.index("single")))
                at = after
                continue
            next_one = after < end and (options.objective == "sop" or follows < random or rng.random() < 0.5)
            if next_one:
                begin, limit, label, kind = after, end, 0, PAIR_KINDS.index("next")
                follows += 1
            else:
                other, begin, kind = random_start(source, document)
                limit, label = int(other[1]), 1
                random += 1
            after_b, stop_b = sentence(begin, room_b) if short else span(begin, room_b, limit)
            b = (int(starts[begin]), stop_b)
            if options.objective == "sop" and rng.random() < 0.5:
                a, b, label, kind = b, a, 1, PAIR_KINDS.index("swapped")
            examples.append((*a, *b, label, kind))
            at = after_b if next_one else after
    if not examples:
        raise ValueError("These documents give no examples: they need at least one sentence.")
    return np.array(examples, np.int64)


# ---------------------------------------------------------------- sentence pairs -> batches


def make_batches(examples: np.ndarray, batch_tokens: int, seed: int) -> list[np.ndarray]:
    """Group examples of like length, so that little is padded; batches come in random order.

    Returns index arrays; each batch holds about batch_tokens tokens, padding included.

    >>> import numpy as np
    >>> examples = np.array([[0, 10, 0, 0, -100, 5], [0, 50, 0, 0, -100, 5], [0, 11, 0, 0, -100, 5]])
    >>> sorted(len(batch) for batch in make_batches(examples, batch_tokens=60, seed=0))
    [1, 2]
    """
    rng = np.random.default_rng(seed)
    lengths = lengths_of(examples)
    order = np.lexsort((rng.random(len(examples)), lengths))[::-1]
    batches, current = [], []
    for index in order:
        widest = lengths[current[0]] if current else lengths[index]
        if current and widest * (len(current) + 1) > batch_tokens:
            batches.append(np.array(current))
            current = []
        current.append(index)
    batches.append(np.array(current))
    return [batches[i] for i in rng.permutation(len(batches))]


def lengths_of(examples: np.ndarray) -> np.ndarray:
    """Tokens of each example with its special tokens: [CLS] A [SEP], and B [SEP] if there is a B."""
    b = examples[:, 3] - examples[:, 2]
    return examples[:, 1] - examples[:, 0] + 2 + np.where(b > 0, b + 1, 0)


def collate(cache: TextCache, examples: np.ndarray, tokenizer, seed: int, probability: float = 0.15, whole_words: bool = False) -> dict[str, torch.Tensor]:
    """Build the tensors of one batch and mask it, anew for every seed.

    Returns input_ids, attention_mask, token_type_ids, labels (all (B, T)) and next_sentence_label (B,).
    """
    width = int(lengths_of(examples).max())
    size = (len(examples), width)
    input_ids = np.full(size, tokenizer.pad_token_id, np.int64)
    attention_mask, token_type_ids, special = np.zeros(size, np.int64), np.zeros(size, np.int64), np.ones(size, np.int64)
    words = np.zeros(size, np.int64)
    tokens, continues = np.asarray(cache.tokens), np.asarray(cache.continues)  # the same memory, without memmap's cost for every slice
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    for row, (a0, a1, b0, b1, _, _) in enumerate(examples.tolist()):
        at = 1
        input_ids[row, 0] = cls
        for segment, (start, stop) in enumerate([(a0, a1), (b0, b1)][: 1 + (b1 > b0)]):
            end = at + stop - start
            input_ids[row, at:end] = tokens[start:stop]
            special[row, at:end] = 0
            words[row, at:end] = ~continues[start:stop]
            input_ids[row, end] = sep
            words[row, end] = 1
            token_type_ids[row, at : end + 1] = segment
            at = end + 1
        attention_mask[row, :at] = 1
    ids, generator = torch.from_numpy(input_ids), torch.Generator().manual_seed(seed)
    masked = mask_tokens(
        ids,
        tokenizer,
        probability,
        special_tokens_mask=torch.from_numpy(special),
        word_ids=torch.from_numpy(words.cumsum(1)) if whole_words else None,
        generator=generator,
    )
    return {
        "input_ids": masked.input_ids,
        "attention_mask": torch.from_numpy(attention_mask),
        "token_type_ids": torch.from_numpy(token_type_ids),
        "labels": masked.labels,
        "next_sentence_label": torch.from_numpy(examples[:, 4].copy()),
    }


def share_of(batch: dict[str, torch.Tensor], index: int, processes: int) -> tuple[dict[str, torch.Tensor], tuple[float, float]]:
    """The part of a batch that one of several processes trains on, and what to divide its summed losses by.

    Process i gets the rows i, i + processes, ...; where there are too few, a row that asks for nothing.
    The divisors (MLM, NSP) are the counts of the whole batch over `processes`: the mean of the processes' losses, and of
    their gradients, is then that of the whole batch, however unevenly the tokens asked for are spread.

    >>> batch = {"labels": torch.tensor([[7, -100], [5, 6], [8, -100]]), "next_sentence_label": torch.tensor([0, 1, -100])}
    >>> own, divisors = share_of(batch, index=0, processes=2)
    >>> own["labels"].tolist(), divisors
    ([[7, -100], [8, -100]], (2.0, 1.0))
    """
    divisors = tuple(max(1, int((batch[name] != IGNORE).sum())) / processes for name in ("labels", "next_sentence_label"))
    if index < len(batch["labels"]):
        return {name: tensor[index::processes] for name, tensor in batch.items()}, divisors
    own = {name: tensor[:1].clone() for name, tensor in batch.items()}
    for name in ("labels", "next_sentence_label"):
        own[name].fill_(IGNORE)
    return own, divisors


# ---------------------------------------------------------------- batches -> losses


class PretrainingLoss(nn.Module):
    """MLM + NSP loss of a BertForPreTraining, with the MLM head computed on the masked tokens alone.

    The vocabulary projection is most of a small model's work: 85 % of it would go to tokens whose
    prediction nobody asks for. The losses are the same as BertForPreTraining's.
    forward(batch) -> dict with loss, mlm_loss, nsp_loss (scalars; 0 where nothing is asked) and
    what was right: mlm_correct and mlm_count (scalars), nsp_right (one 0 or 1 a pair).
    Its second argument replaces the numbers of tokens and of pairs by which the sums are divided: see `share_of`.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, torch.Tensor], divisors: tuple[float, float] | None = None) -> dict[str, torch.Tensor]:
        output = self.model.bert(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], token_type_ids=batch["token_type_ids"]
        )
        asked = batch["labels"] != IGNORE  # (B, T)
        hidden, labels = output.last_hidden_state[asked], batch["labels"][asked]  # (M, H), (M,)
        logits = self.model.cls.predictions(hidden)  # (M, V)
        next_logits = self.model.cls.seq_relationship(output.pooler_output)  # (B, 2)
        paired = batch["next_sentence_label"] != IGNORE
        next_labels = batch["next_sentence_label"][paired]
        # sum / count keeps the loss 0, not NaN, where nothing is asked
        tokens, pairs = divisors or (max(1, len(labels)), max(1, len(next_labels)))
        mlm_loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / tokens
        nsp_loss = nn.functional.cross_entropy(next_logits[paired].float(), next_labels, reduction="sum") / pairs
        return {
            "loss": mlm_loss + nsp_loss,
            "mlm_loss": mlm_loss,
            "nsp_loss": nsp_loss,
            "mlm_correct": (logits.argmax(-1) == labels).sum(),
            "mlm_count": asked.sum(),
            "nsp_right": (next_logits[paired].argmax(-1) == next_labels).float().detach(),
        }


# ---------------------------------------------------------------- the loop


@dataclasses.dataclass(frozen=True)
class PretrainOptions:
    """The recipe. Everything that changes the result is here, so that a run can be repeated.

    tokens          how long to train, in tokens seen (padding not counted)
    batch_tokens    tokens in a batch, padding included
    learning_rate   its peak: it rises for the share `warmup` of the tokens, then falls linearly to 0
    embedding_rate  the embeddings' learning rate, as a share of learning_rate
    frozen_layers   how many of the lowest layers keep their weights
    mask            share of tokens to predict; whole_words chooses words instead of pieces
    dropout         while training (the saved config keeps the model's own)
    bfloat16        multiply matrices in bfloat16 on a CPU that can (a GPU that can always does)
    mix             {file name: share of its documents used in an epoch}; 1 where nothing is said, 2.5
                    uses each twice and every other one a third time
    finish_mix      the mix from the share `finish_at` of the tokens on
    """

    tokens: int
    batch_tokens: int = 2304
    learning_rate: float = 6e-4
    warmup: float = 0.05
    weight_decay: float = 0.01
    embedding_rate: float = 1.0
    frozen_layers: int = 0
    mask: float = 0.15
    whole_words: bool = False
    dropout: float = 0.0
    bfloat16: bool = False
    pairs: PairOptions = PairOptions()
    mix: dict[str, float] = dataclasses.field(default_factory=dict)
    finish_mix: dict[str, float] | None = None
    finish_at: float = 1.0
    seed: int = 0

    def __post_init__(self):
        for name, low in ("tokens", 0), ("batch_tokens", 1), ("frozen_layers", 0), ("seed", 0):
            whole(getattr(self, name), name, low)
        for name, high in ("learning_rate", 1e6), ("weight_decay", 1e6), ("embedding_rate", 1e6), ("warmup", 1), ("dropout", 1), ("finish_at", 1):
            number(getattr(self, name), name, 0, high)
        if not 0 < number(self.mask, "mask") < 1:
            raise ValueError(f"mask, the share of tokens to predict, must lie between 0 and 1, not {self.mask}.")


def pretrain(
    model,
    tokenizer,
    cache: TextCache,
    output: str | Path,
    options: PretrainOptions,
    *,
    resume: bool = False,
    save_minutes: float = 5.0,
    evaluate_every: float = 0.05,
    held_out_pairs: int = 400,
    samples: Sequence[str] = (),
    snapshots: Sequence[float] = (),
    callback: Callable[[dict], bool | None] | None = None,
    progress: bool = True,
) -> list[dict]:
    """Train a BertForPreTraining on `cache` and leave a plain checkpoint in `output`.

    resume          go on from output/training.pt, bit for bit where it stopped (same machine)
    save_minutes    how often training.pt is written: a crash loses no more than this
    evaluate_every  share of the run between two evaluations on held-out text
    samples         sentences with [MASK]; their predictions are logged at every evaluation
    snapshots       shares of the run at which the weights are kept in output/snapshots/
    callback        called with every log record; returning False stops the run and saves it
    Returns the log: a list of records, also in output/log.jsonl. Ctrl-C saves, then stops.
    Raises FloatingPointError when the loss or its gradient is no longer a number and OSError on a full disk,
    each with what to do; the last checkpoint stays.

    Several GPUs or nodes: start it with `torchrun` or `accelerate launch`, one process a GPU. N processes train like one whose
    batch_tokens are N times as many: the same batches and masks, each process with its share, the same losses up to rounding.
    bfloat16 is used on a GPU that has it. On a CPU it is float32 unless the recipe says bfloat16: with AVX512-BF16 or AMX that is
    twice as fast, without them a hundred times slower, so it is refused there.
    """
    from accelerate import Accelerator

    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    on_cpu = not torch.cuda.is_available()
    if options.bfloat16 and on_cpu and not cpu_has_bfloat16():
        raise ValueError("This processor has neither AVX512-BF16 nor AMX: bfloat16 would be far slower than float32. Leave it out.")
    accelerator = Accelerator(mixed_precision="no" if on_cpu or not torch.cuda.is_bf16_supported() else "bf16", cpu=on_cpu)
    main = accelerator.is_main_process
    _keep_freed_memory()
    torch.manual_seed(options.seed)
    network = PretrainingLoss(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, options), lr=options.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)
    network, optimizer = accelerator.prepare(network, optimizer)
    own_dropout = _set_dropout(model, options.dropout)
    own_attention = model.config._attn_implementation
    if options.bfloat16 and on_cpu:
        model.set_attn_implementation("eager")  # the fused kernel's backward pass is slow in bfloat16

    state = {"step": 0, "tokens": 0, "stage": 0, "epoch": 0, "index": 0}
    log: list[dict] = []
    window: list[tuple[float, float]] = []  # losses since the last record
    looked_at = -1  # tokens at the last look for evaluations and snapshots: what came due afterwards is still to do
    if resume:
        saved = load_training(output, options)
        state, log = saved["state"], saved["log"]
        window, looked_at = state.pop("window", []), state.pop("looked_at", state["tokens"])
        if (was := state.pop("processes", 1)) != accelerator.num_processes:
            raise ValueError(f"{output} was begun with {was} processes, not {accelerator.num_processes}: resume with as many, or start in another folder.")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"])
    if main:
        _write_log(output, log)

    trained_on = np.flatnonzero(cache.documents[:, 3] == 0)
    if not len(trained_on):
        raise ValueError("Every document of this text is held out: nothing is left to train on.")
    held_out = held_out_examples(cache, options.pairs, held_out_pairs)
    bar = _progress_bar(options.tokens, state["tokens"], progress and main)
    last_save, began, began_tokens = time.monotonic(), time.monotonic(), state["tokens"]
    looks = math.floor(looked_at / options.tokens / evaluate_every + 1e-9) if looked_at >= 0 else -1  # multiples of evaluate_every behind us
    pending = [s for s in sorted(snapshots) if s * options.tokens > looked_at]
    stopped = False

    def record(**values) -> None:
        nonlocal stopped
        entry = {"step": state["step"], "tokens": state["tokens"], "share": round(min(1.0, state["tokens"] / options.tokens), 4), **values}
        log.append(entry)
        if main:
            with _full_disk_is_said(output), open(output / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        if callback is not None and callback(entry) is False:
            stopped = True

    def save() -> None:
        if main:
            place = {**state, "window": window, "looked_at": looked_at, "processes": accelerator.num_processes}
            save_training(output, model, optimizer, place, log, options)

    def look() -> None:
        scores = evaluate(model, tokenizer, cache, held_out) if len(held_out) else {}
        record(event="evaluation", **scores, samples={text: sample_predictions(model, tokenizer, text) for text in samples})

    with _signals_wait() as asked_to_stop:
        for rows, place in training_batches(cache, trained_on, options, state, accelerator.num_processes):
            share = state["tokens"] / options.tokens
            while pending and share >= pending[0]:
                if main:
                    with _full_disk_is_said(output):
                        save_checkpoint(model, tokenizer, output / "snapshots" / f"{pending[0]:g}", own_dropout)
                pending.pop(0)
            if (due := math.floor(share / evaluate_every + 1e-9)) > looks:
                look()
                looks = due
            looked_at = state["tokens"]
            if share >= 1 or _mean_over_processes(accelerator, stopped or bool(asked_to_stop))[0]:  # one stops, all stop
                break
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * learning_rate_at(share, options.warmup)
            batch = collate(cache, rows, tokenizer, _seed(options.seed, 1, state["step"], 0), options.mask, options.whole_words)
            batch, divisors = share_of(batch, accelerator.process_index, accelerator.num_processes)
            batch = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
            network.train()
            with torch.autocast("cpu", torch.bfloat16, options.bfloat16) if on_cpu else accelerator.autocast():
                result = network(batch, divisors)
            losses = _mean_over_processes(accelerator, result["mlm_loss"], result["nsp_loss"])
            if math.isfinite(loss := sum(losses)):
                accelerator.backward(result["loss"])
                gradient = float(accelerator.clip_grad_norm_(model.parameters(), 1.0))
            if not (math.isfinite(loss) and math.isfinite(gradient)):
                raise diverged(loss, state["step"], f"Lower learning_rate (now {options.learning_rate}) or lengthen warmup", output)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seen = int(lengths_of(rows).sum())
            state = {"step": state["step"] + 1, "tokens": state["tokens"] + seen, **place}
            window.append(tuple(losses))
            bar.update(seen)
            if state["step"] % 20 == 0:
                mlm_loss, nsp_loss = np.mean(window, 0)
                window = []
                speed = (state["tokens"] - began_tokens) / (time.monotonic() - began)
                record(event="train", mlm_loss=round(float(mlm_loss), 4), nsp_loss=round(float(nsp_loss), 4), tokens_per_second=round(speed))
                bar.set_postfix(mlm=f"{mlm_loss:.2f}", nsp=f"{nsp_loss:.2f}")
            if time.monotonic() - last_save > save_minutes * 60:
                save()
                last_save = time.monotonic()
    interrupted = _mean_over_processes(accelerator, bool(asked_to_stop))[0] > 0
    if interrupted:
        record(event="stopped")
    save()
    accelerator.wait_for_everyone()  # torchrun ends all processes when the first has gone: not before this is saved
    bar.close()
    _set_dropout(model, own_dropout)
    model.set_attn_implementation(own_attention)
    if interrupted:
        raise KeyboardInterrupt
    model.eval()
    if main:
        with _full_disk_is_said(output):
            save_checkpoint(model, tokenizer, output / "model")
    return log


def training_batches(cache: TextCache, documents: np.ndarray, options: PretrainOptions, state: dict, processes: int = 1):
    """Yield (the examples of a batch, the place after it) for ever, from state's place on.

    With several processes a batch holds as many times batch_tokens, and each takes its `share_of` it.
    An epoch's documents, pairs and batches follow from (seed, stage, epoch) alone, so that a place is
    three numbers: stage (0, then 1 for the finishing mix), epoch and index.
    """
    stage, epoch, index = state["stage"], state["epoch"], state["index"]
    seen = state["tokens"]
    while True:
        mix = options.mix if stage == 0 or options.finish_mix is None else options.finish_mix
        rng = np.random.default_rng(_seed(options.seed, 2, stage, epoch))
        shares = np.array([mix.get(name, 1.0) for name in cache.sources])[cache.documents[documents, 2]]
        chosen = np.repeat(documents, shares.astype(int) + (rng.random(len(documents)) < shares % 1))
        examples = make_pairs(cache, chosen, options.pairs, _seed(options.seed, 3, stage, epoch))
        batches = make_batches(examples, options.batch_tokens * processes, _seed(options.seed, 4, stage, epoch))
        while index < len(batches):
            if stage == 0 and seen >= options.finish_at * options.tokens:
                break
            rows = examples[batches[index]]
            index += 1
            yield rows, {"stage": stage, "epoch": epoch, "index": index}
            seen += int(lengths_of(rows).sum())
        if stage == 0 and seen >= options.finish_at * options.tokens:
            stage, epoch, index = 1, 0, 0
        else:
            epoch, index = epoch + 1, 0


def learning_rate_at(share: float, warmup: float) -> float:
    """The schedule: up linearly over `warmup`, then down linearly to 0 at the end.

    >>> [round(learning_rate_at(share, warmup=0.1), 2) for share in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.01, 0.5, 1.0, 0.5, 0.0]
    """
    if share < warmup:
        return max(0.01, share / warmup)
    return max(0.0, (1 - share) / (1 - warmup))


def parameter_groups(model, options: PretrainOptions) -> list[dict]:
    """Weights in groups: no decay on biases and LayerNorms, embeddings at their own rate, frozen layers left out."""
    frozen = tuple(f"bert.encoder.layer.{i}." for i in range(options.frozen_layers))
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in model.named_parameters():
        if frozen and name.startswith(frozen):
            parameter.requires_grad_(False)
            continue
        rate = options.learning_rate * (options.embedding_rate if name.startswith("bert.embeddings.") else 1.0)
        decay = options.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": rate, "peak": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


# ---------------------------------------------------------------- looking at a model


def held_out_examples(cache: TextCache, options: PairOptions, count: int, seed: int = 0) -> np.ndarray:
    """The first `count` pairs of the held-out documents, in an order that the seed fixes; empty without any."""
    documents = np.flatnonzero(cache.documents[:, 3] == 1)
    if not len(documents) or not count:
        return np.zeros((0, 6), np.int64)
    examples = make_pairs(cache, documents, options, seed)
    return examples[np.random.default_rng(seed).permutation(len(examples))[:count]]


@torch.inference_mode()
def evaluate(model, tokenizer, cache: TextCache, examples: np.ndarray, seed: int = 0) -> dict:
    """Held-out scores of a BertForPreTraining: 15 % masking, the same masks at every call.

    Returns mlm_loss (nats a masked token), perplexity = exp(mlm_loss), mlm_accuracy, nsp_accuracy and
    nsp_by_kind {kind of B: [accuracy, pairs]}.
    """
    network, device, was_training = PretrainingLoss(model), next(model.parameters()).device, model.training
    model.eval()
    loss = correct = count = 0.0
    right: dict[str, list[float]] = {}
    for number, batch in enumerate(make_batches(examples, 4096, seed)):
        rows = examples[batch]
        tensors = {k: v.to(device) for k, v in collate(cache, rows, tokenizer, _seed(seed, 5, number)).items()}
        result = network(tensors)
        asked = int(result["mlm_count"])
        loss += float(result["mlm_loss"]) * asked
        correct += int(result["mlm_correct"])
        count += asked
        kinds = rows[rows[:, 4] != IGNORE, 5]
        for kind, one in zip(kinds, result["nsp_right"].tolist()):
            right.setdefault(PAIR_KINDS[kind], []).append(one)
    model.train(was_training)
    everything = [one for ones in right.values() for one in ones]
    return {
        "mlm_loss": round(loss / max(1, count), 4),
        "perplexity": round(math.exp(loss / max(1, count)), 2),
        "mlm_accuracy": round(correct / max(1, count), 4),
        "nsp_accuracy": round(float(np.mean(everything)), 4) if everything else None,
        "nsp_by_kind": {kind: [round(float(np.mean(ones)), 4), len(ones)] for kind, ones in sorted(right.items())},
    }


@torch.inference_mode()
def sample_predictions(model, tokenizer, text: str, top_k: int = 5) -> list[str]:
    """The top_k word pieces at the first [MASK] of `text`."""
    was_training = model.training
    model.eval()
    encoded = tokenizer(text, return_tensors="pt").to(next(model.parameters()).device)
    position = (encoded["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0, 0]
    hidden = model.bert(**encoded).last_hidden_state[0, position]  # (H,)
    best = model.cls.predictions(hidden).topk(top_k).indices
    model.train(was_training)
    return tokenizer.convert_ids_to_tokens(best.tolist())


# ---------------------------------------------------------------- saving and starting


def save_checkpoint(model, tokenizer, folder: str | Path, dropout: float | None = None) -> None:
    """Write a plain transformers checkpoint: float16 on disk, float32 when loaded, in one atomic step."""
    import copy
    import shutil

    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    half = copy.deepcopy(model).cpu().half()
    try:
        half.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)  # half a checkpoint helps nobody
        raise
    config = json.loads((partial / "config.json").read_text())
    config["dtype"] = "float32"
    if dropout is not None:
        config["hidden_dropout_prob"] = config["attention_probs_dropout_prob"] = dropout
    (partial / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def save_training(output: Path, model, optimizer, state: dict, log: list[dict], options: PretrainOptions) -> None:
    """Write output/training.pt whole or not at all: a new file first, then a rename. OSError, with advice, on a full disk."""
    partial = output / "training.pt.partial"
    payload = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "state": state,
        "rng": torch.get_rng_state(),
        "log": json.dumps(log),
        "options": json.dumps(dataclasses.asdict(options), sort_keys=True),
    }
    with _full_disk_is_said(output):
        try:
            with open(partial, "wb") as file:
                torch.save(payload, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, output / "training.pt")
        except Exception:
            partial.unlink(missing_ok=True)  # half a file helps nobody
            raise


def diverged(loss: float, step: int, advice: str, output: Path | None) -> FloatingPointError:
    """The error for a loss or gradient that is no longer a number. The weights are still those from before the step."""
    what = "The gradients are no longer finite" if math.isfinite(loss) else f"The loss became {loss}"
    kept = f"; {output / 'training.pt'} still holds the last good checkpoint" if output and (output / "training.pt").exists() else ""
    return FloatingPointError(f"{what} at step {step}. {advice}, then start again in another folder{kept}.")


@contextlib.contextmanager
def _full_disk_is_said(output: Path):
    """Turn whatever a library raises on a full disk into one OSError that says what to do."""
    try:
        yield
    except Exception as error:
        causes = [error]
        while cause := causes[-1].__cause__ or causes[-1].__context__:
            causes.append(cause)
        if not any(getattr(e, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(e) for e in causes):
            raise
        saved = (output / "training.pt").exists()
        advice = "The last checkpoint (training.pt) is whole: free some room, then resume." if saved else "Nothing was saved yet: free some room, then begin again."
        raise OSError(f"No room is left on the disk of {output}. {advice}") from None


def load_training(output: Path, options: PretrainOptions) -> dict:
    """Read what `save_training` wrote; a run with another recipe is refused."""
    file = output / "training.pt"
    if not file.exists():
        raise ValueError(f"{output} holds no training.pt to resume from: start without resume.")
    saved = torch.load(file, weights_only=True)
    saved["log"] = json.loads(saved["log"])
    was, now = json.loads(saved["options"]), json.loads(json.dumps(dataclasses.asdict(options)))
    changed = sorted(name for name in now if was.get(name) != now[name])
    if changed:
        raise ValueError(f"{output} was begun with another recipe ({', '.join(changed)} differ): resume with the same options, or start in another folder.")
    return saved


def start_from(parent: str | Path, cache: TextCache | None = None, reinitialised_layers: int = 0, seed: int = 0, keep_heads: bool = False):
    """A BertForPreTraining that begins from an encoder's embeddings and layers, with new heads.

    parent                a folder with a BERT-like encoder, such as bl.SBERT
    cache                 if given, a new MLM bias starts at each token's log frequency in it
    reinitialised_layers  how many of the top layers start at random
    keep_heads            go on from a checkpoint that has both heads: pooler and heads are kept too
    """
    from transformers import BertForPreTraining
    from transformers.utils import logging

    torch.manual_seed(seed)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # the heads are meant to be missing
    model = BertForPreTraining.from_pretrained(parent, dtype=torch.float32)
    logging.set_verbosity(level)
    for layer in list(model.bert.encoder.layer)[len(model.bert.encoder.layer) - reinitialised_layers :]:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=model.config.initializer_range)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
    if keep_heads:
        return model
    for linear in (model.bert.pooler.dense, model.cls.predictions.transform.dense, model.cls.seq_relationship):
        nn.init.normal_(linear.weight, std=model.config.initializer_range)
        nn.init.zeros_(linear.bias)
    if cache is not None:
        counts = np.bincount(cache.tokens, minlength=model.config.vocab_size) + 0.1
        with torch.no_grad():
            model.cls.predictions.bias.copy_(torch.from_numpy(np.log(counts / counts.sum())).float())
    return model


@contextlib.contextmanager
def _signals_wait():
    """Ctrl-C and SIGTERM wait for the end of the step: what is saved is always a whole step.

    Yields a list that is no longer empty once one has come; a second one interrupts at once.
    """
    asked: list[int] = []

    def note(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals go elsewhere
        before = {}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware (AVX512-BF16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _mean_over_processes(accelerator, *values) -> list[float]:
    """Each value's mean over all processes; with one process the values as they are."""
    own = [value.item() if isinstance(value, torch.Tensor) else float(value) for value in values]
    if accelerator.num_processes == 1:
        return own
    return accelerator.reduce(torch.tensor(own, device=accelerator.device), "mean").tolist()


def _set_dropout(model, probability: float) -> float:
    """Set every dropout of the network; returns what it was."""
    was = model.config.hidden_dropout_prob
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        elif hasattr(module, "dropout_prob"):
            module.dropout_prob = probability
    return was


def _keep_freed_memory() -> None:
    """Ask glibc to keep freed memory instead of handing it back to the system after every step.

    The logits of one step take some 80 MB; fetching those pages anew each time costs a third of a step.
    """
    import ctypes
    import sys

    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no separate mapping for large blocks
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: do not shrink the heap


def _seed(*parts: int) -> int:
    """One seed from several numbers: the same numbers give the same seed, on every machine."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _write_log(output: Path, log: list[dict]) -> None:
    (output / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log), encoding="utf-8")


def _progress_bar(total: int, done: int, show: bool):
    from tqdm import tqdm

    return tqdm(total=total, initial=done, unit=" tokens", unit_scale=True, disable=not show, smoothing=0.1)
