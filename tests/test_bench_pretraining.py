"""bertlab bench pretraining and growth: what they count, that both sides get the same, that the rows make sense. Never how fast."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForPreTraining

import bertlab as bl
from bertlab import pretraining as pt
from bertlab.bench import Options, growth
from bertlab.bench import pretraining as bench
from bertlab.checkpoints import data_folder
from bertlab.mlm import IGNORE
from bertlab.sbert import sentence_vectors

TINY = bench.QUICK[0]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Matrices as small as these only wait for each other on several cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def ground():
    return bench.ground(TINY)


@pytest.fixture(scope="module")
def batch(ground):
    """One with pairs and single sentences."""
    batches = bench.batches_of(ground, 20)
    step = next(step for step, rows in enumerate(batches) if 0 < (rows[:, 4] == IGNORE).sum() < len(rows))
    return bench._collated(ground, batches, step)


def small_model(vocab_size=50):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 128}
    config = BertConfig(vocab_size=vocab_size, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager", **sizes)
    return BertForPreTraining(config)


@pytest.mark.parametrize("everywhere", [True, False])
def test_the_flop_formula_is_what_torch_counts(batch, ground, everywhere):
    """One step, forward and backward: transformers' loss over all positions, and bertlab's over the masked ones."""
    model = small_model(len(ground.tokenizer))
    with FlopCounterMode(display=False) as counted:
        loss = model(**batch).loss if everywhere else pt.PretrainingLoss(model)(batch)["loss"]
        loss.backward()
    rows, length = batch["labels"].shape
    asked, pairs = int((batch["labels"] != IGNORE).sum()), int((batch["next_sentence_label"] != IGNORE).sum())
    assert 0 < asked < rows * length and 0 < pairs <= rows
    assert counted.get_total_flops() == bench.training_flops(model.config, rows, length, rows * length if everywhere else asked)


def test_the_peers_read_the_same_batches(ground):
    """Transformers' collator pads the examples to the very tensors of bertlab.collate, before masking."""
    for step, rows in enumerate(bench.batches_of(ground, 3)):
        ours = bench._collated(ground, bench.batches_of(ground, 3), step)
        (theirs,) = bench._loader(ground, [rows], same_masks=False)
        for one in (ours, theirs):
            one["restored"] = torch.where(one["labels"] != IGNORE, one["labels"], one["input_ids"])
        for name in ("restored", "attention_mask", "token_type_ids", "next_sentence_label"):
            assert torch.equal(ours[name], theirs[name]), name
        assert not torch.equal(ours["labels"], theirs["labels"])  # each draws its own masks


def test_all_sides_begin_with_the_same_weights_and_agree(ground):
    one, other = (bench.new_model(ground).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    losses = {side: bench.train(side, TINY, bench.WINDOW, same_masks=True)[1] for side in bench.SIDES}
    for peer in ("trainer", "loop"):  # one schedule for all: only rounding is left
        assert losses[peer] == pytest.approx(losses["bertlab"], rel=0.0001)


def test_the_rows_of_pretraining(monkeypatch):
    monkeypatch.setattr(bench, "QUICK", bench.QUICK[:1])  # the mini takes its time
    rows = list(bench.rows(Options(quick=True, threads=1)))
    assert [row.what.split(":")[0] for row in rows] == ["tiny"] * 4
    assert all(row.part == "pretraining" and row.value is not None and math.isfinite(row.value) and row.value >= 0 for row in rows)
    assert "vocabulary 2" in rows[0].note and 0 < rows[2].value < 1 and rows[3].value < 0.02


# ---------------------------------------------------------------- growth: several processes


@pytest.mark.parametrize("processes", [2, 3, 40])
def test_processes_together_take_the_step_of_one(batch, ground, processes):
    """The mean of their losses and gradients is that of the whole batch, also where there are more processes than rows."""
    model = small_model(len(ground.tokenizer))
    network = pt.PretrainingLoss(model)
    network(batch)["loss"].backward()
    wanted = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    whole, parts, seen = network(batch)["loss"].item(), [], 0
    model.zero_grad()
    for index in range(processes):
        own, divisors = pt.share_of(batch, index, processes)
        seen += int((own["labels"] != IGNORE).sum())
        parts.append(network(own, divisors)["loss"])
    mean = sum(parts) / processes
    mean.backward()
    assert seen == int((batch["labels"] != IGNORE).sum()) and mean.item() == pytest.approx(whole, rel=1e-5)
    assert all(torch.allclose(parameter.grad, wanted[name], atol=1e-6) for name, parameter in model.named_parameters())


def test_batches_grow_with_the_processes(ground):
    documents = np.flatnonzero(ground.cache.documents[:, 3] == 0)
    start, small = {"stage": 0, "epoch": 0, "index": 0, "tokens": 0}, pt.PretrainOptions(tokens=10**9, batch_tokens=256)
    large = pt.PretrainOptions(tokens=10**9, batch_tokens=512)
    two, one = (list(itertools.islice(pt.training_batches(ground.cache, documents, *how), 20)) for how in ((small, start, 2), (large, start)))
    assert all(np.array_equal(a, b) and place == there for (a, place), (b, there) in zip(two, one))


def test_another_number_of_processes_is_refused(ground, tmp_path):
    options = pt.PretrainOptions(tokens=300, batch_tokens=100)
    run = {"held_out_pairs": 0, "progress": False}
    pt.pretrain(small_model(len(ground.tokenizer)), ground.tokenizer, ground.cache, tmp_path, options, **run)
    saved = torch.load(tmp_path / "training.pt", weights_only=True)
    assert saved["state"]["processes"] == 1
    saved["state"]["processes"] = 4
    torch.save(saved, tmp_path / "training.pt")
    with pytest.raises(ValueError, match="begun with 4 processes, not 1: resume with as many"):
        pt.pretrain(small_model(len(ground.tokenizer)), ground.tokenizer, ground.cache, tmp_path, options, resume=True, **run)


@pytest.mark.soak
def test_two_processes_under_torchrun_train_like_one():
    row = growth.distributed(Options(quick=True))
    assert row.value < 0.001


@pytest.mark.soak
def test_two_processes_stop_together_and_save(tmp_path):
    """SIGTERM reaches them at different moments; both stop at the same step, and what is saved is whole."""
    text = ("--tokens", "5M", "--layers", "1", "--hidden", "64", "--batch-tokens", "256", "--held-out-pairs", "0", "--quiet")
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "bertlab.cli", "pretrain", str(data_folder() / "everyday.txt"), *text]
    run = subprocess.Popen([sys.executable, *command, "--output", str(tmp_path)], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "log.jsonl"
    while not log.exists() or len(log.read_text().splitlines()) < 3:
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.2)
    run.send_signal(signal.SIGTERM)
    said = run.communicate(timeout=60)[1]
    state, last = torch.load(tmp_path / "training.pt", weights_only=True)["state"], json.loads(log.read_text().splitlines()[-1])
    assert last["event"] == "stopped" and state["step"] == last["step"] and state["processes"] == 2
    assert said.count("Stopped and saved") == 1 and not list(tmp_path.glob("*.partial"))


# ---------------------------------------------------------------- growth: a stream of sentences

TEXTS = [f"The {animal} slept in the {place}." for animal in ("cat", "dog", "hen") for place in ("barn", "kitchen of the old mill", "sun")]


def test_a_stream_gives_the_vectors_of_its_sentences_in_their_order(tmp_path):
    vectors = bl.stream_vectors(iter(TEXTS), tmp_path / "v.npy", devices=["cpu"], block=4)
    expected = torch.nn.functional.normalize(sentence_vectors(TEXTS, model=bl.SBERT), dim=-1).numpy()
    assert isinstance(vectors, np.memmap) and vectors.dtype == np.float32 and vectors.shape == (9, 384)
    assert np.allclose(vectors, expected, atol=1e-5)
    half = bl.stream_vectors(TEXTS, tmp_path / "h.npy", devices=["cpu"], dtype="float16")
    assert half.dtype == np.float16 and np.allclose(half, expected, atol=1e-3)
    assert sorted(os.listdir(tmp_path)) == ["h.npy", "v.npy"]


def test_only_a_block_is_taken_at_a_time(tmp_path, monkeypatch):
    """The next sentences are taken from the iterator only after those before are encoded."""
    from sentence_transformers import SentenceTransformer

    happened, encode = [], SentenceTransformer.encode

    def sentences():
        for number, text in enumerate(TEXTS[:5]):
            happened.append(number)
            yield text

    def noted(self, texts, **how):
        happened.append(f"{len(texts)} encoded")
        return encode(self, texts, **how)

    monkeypatch.setattr(SentenceTransformer, "encode", noted)
    bl.stream_vectors(sentences(), tmp_path / "v.npy", devices=["cpu"], block=2)
    assert happened == [0, 1, "2 encoded", 2, 3, "2 encoded", 4, "1 encoded"]


@pytest.mark.parametrize(
    "sentences, says",
    [("A cat sat.", "strings, one after the other"), ([], "no sentences"), (["A cat sat.", ""], "sentence 1 is empty"), (["A cat.", 3], "sentence 1 must be a string")],
)
def test_a_stream_of_something_else_is_refused_and_leaves_no_file(sentences, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        bl.stream_vectors(sentences, tmp_path / "v.npy", devices=["cpu"])
    assert not os.listdir(tmp_path)


def test_the_row_of_a_stream():
    row = growth.streamed(40, ["cpu"])
    assert row.part == "growth" and row.sides["early_mb"] > 50 and row.value == pytest.approx(row.sides["late_mb"] / row.sides["early_mb"])
    assert row.sides["vectors_mb"] == pytest.approx(40 * 384 * 4 / 1e6)


@pytest.mark.soak
def test_a_pool_of_processes_gives_the_same_vectors(tmp_path):
    alone, pool = (bl.stream_vectors(TEXTS, tmp_path / f"{len(devices)}.npy", devices=devices, block=4) for devices in (["cpu"], ["cpu", "cpu"]))
    assert np.allclose(alone, pool, atol=1e-5) and "OMP_NUM_THREADS" not in os.environ
