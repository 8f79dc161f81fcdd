"""The data pipeline and the loss of pretraining, on text of data/ and a tiny model."""

import gzip
import shutil
import subprocess

import numpy as np
import pytest
import torch

import bertlab as bl
from bertlab import pretraining as pt
from bertlab.checkpoints import load_tokenizer
from bertlab.mlm import IGNORE


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(bl.BERT)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two sources in BERT's layout: one plain, one gzipped."""
    folder = tmp_path_factory.mktemp("text")
    texts = bl.documents()
    halves = {"a.txt": texts[::2], "b.txt.gz": texts[1::2]}
    for name, documents in halves.items():
        opener = gzip.open if name.endswith(".gz") else open
        with opener(folder / name, "wt", encoding="utf-8") as file:
            file.write("\n\n".join("\n".join(d.sentences) for d in documents) + "\n")
    return [folder / name for name in halves]


@pytest.fixture(scope="module")
def cache(files, tokenizer, tmp_path_factory):
    return pt.TextCache.build(files, tokenizer, tmp_path_factory.mktemp("cache"), held_out=0.2, held_out_documents={"a.txt": [3, 5]})


def test_the_cache_holds_the_text(cache, files, tokenizer):
    documents = [d for file in files for d in pt.read_documents(file)]
    assert len(cache.documents) == len(documents) == len(bl.documents())
    first, last, source, _ = cache.documents[70]
    ids = [cache.tokens[cache.sentences[i] : cache.sentences[i + 1]].tolist() for i in range(first, last)]
    assert ids == tokenizer(documents[70], add_special_tokens=False)["input_ids"] and cache.sources[source] == "b.txt.gz"
    assert isinstance(cache.tokens, np.memmap) and cache.tokens.dtype == np.uint16


def test_held_out_documents_are_those_that_were_named(cache):
    a, b = (cache.documents[cache.documents[:, 2] == s, 3] for s in (0, 1))
    assert np.flatnonzero(a).tolist() == [3, 5]
    assert 0.05 < b.mean() < 0.4


def test_the_cache_is_built_once_and_again_when_the_text_changes(files, tokenizer, tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("One sentence.\nAnother one.\n")
    pt.TextCache.build([text], tokenizer, tmp_path / "c")
    written = (tmp_path / "c" / "tokens.npy").stat().st_mtime_ns
    pt.TextCache.build([text], tokenizer, tmp_path / "c")
    assert (tmp_path / "c" / "tokens.npy").stat().st_mtime_ns == written
    text.write_text("One sentence.\nAnother one.\nA third.\n")
    assert len(pt.TextCache.build([text], tokenizer, tmp_path / "c").sentences) == 4
    text.write_text("\n\n")
    with pytest.raises(ValueError, match="no text"):
        pt.TextCache.build([text], tokenizer, tmp_path / "c")


def place(cache, position):
    """(document, sentence) that begins at or holds a token position."""
    sentence = int(np.searchsorted(cache.sentences, position, side="right")) - 1
    return int(np.searchsorted(cache.documents[:, 0], sentence, side="right")) - 1, sentence


def test_pairs_are_what_their_kind_says(cache):
    everything = np.arange(len(cache.documents))
    examples = pt.make_pairs(cache, everything, pt.PairOptions(max_length=64), seed=1)
    assert pt.lengths_of(examples).max() <= 64
    for a0, a1, b0, b1, label, kind in examples:
        kind, document_a = pt.PAIR_KINDS[kind], place(cache, a0)[0]
        assert a1 > a0 and place(cache, a1 - 1)[0] == document_a
        if kind == "single":
            assert label == IGNORE and b0 == b1 == 0
            continue
        document_b, source = place(cache, b0)[0], cache.documents[:, 2]
        assert label == (0 if kind == "next" else 1)
        if kind == "next":
            assert document_b == document_a and place(cache, b0)[1] == place(cache, a1 - 1)[1] + 1
        else:
            assert document_a != document_b and (source[document_a] == source[document_b]) == (kind == "same source")


def test_shares_of_kinds(cache):
    examples = np.concatenate([pt.make_pairs(cache, np.arange(len(cache.documents)), pt.PairOptions(max_length=64), seed=s) for s in range(30)])
    labels = examples[examples[:, 4] != IGNORE, 4]
    assert abs(labels.mean() - 0.5) < 0.05
    negatives = examples[examples[:, 4] == 1, 5]
    assert abs((negatives == pt.PAIR_KINDS.index("same source")).mean() - 0.5) < 0.08


def test_sentence_order_and_no_second_objective(cache):
    everything = np.arange(len(cache.documents))
    sop = pt.make_pairs(cache, everything, pt.PairOptions(max_length=64, objective="sop"), seed=0)
    kinds = {pt.PAIR_KINDS[k] for k in sop[:, 5]}
    assert kinds == {"next", "swapped", "single"}
    swapped = sop[sop[:, 5] == pt.PAIR_KINDS.index("swapped")]
    assert (swapped[:, 2] < swapped[:, 0]).all() and (swapped[:, 4] == 1).all()  # B stands before A in the text
    alone = pt.make_pairs(cache, everything, pt.PairOptions(max_length=64, objective="none"), seed=0)
    assert (alone[:, 4] == IGNORE).all()


def test_pairs_and_masks_are_fresh_every_epoch_and_repeatable(cache, tokenizer):
    everything = np.arange(len(cache.documents))
    one, same, other = (pt.make_pairs(cache, everything, pt.PairOptions(), seed=s) for s in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one[:50], other[:50])
    a, b, c = (pt.collate(cache, one[:8], tokenizer, seed=s)["labels"] for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_batches_hold_every_example_once_with_little_padding(cache):
    examples = pt.make_pairs(cache, np.arange(len(cache.documents)), pt.PairOptions(), seed=0)
    batches = pt.make_batches(examples, 1024, seed=0)
    assert sorted(np.concatenate(batches)) == list(range(len(examples)))
    lengths = pt.lengths_of(examples)
    padded = sum(len(b) * lengths[b].max() for b in batches)
    assert max(len(b) * lengths[b].max() for b in batches) <= 1024 and lengths.sum() / padded > 0.9


def test_a_batch_reads_as_berts_input(cache, tokenizer):
    examples = pt.make_pairs(cache, np.arange(len(cache.documents)), pt.PairOptions(max_length=48, short=0.0), seed=0)
    rows = examples[examples[:, 5] == 0][:4]
    batch = pt.collate(cache, rows, tokenizer, seed=0)
    restored = torch.where(batch["labels"] != IGNORE, batch["labels"], batch["input_ids"])
    for i, (a0, a1, b0, b1, _, _) in enumerate(rows):
        expected = [tokenizer.cls_token_id, *cache.tokens[a0:a1], tokenizer.sep_token_id, *cache.tokens[b0:b1], tokenizer.sep_token_id]
        n = int(batch["attention_mask"][i].sum())
        assert restored[i, :n].tolist() == [int(x) for x in expected]
        assert batch["token_type_ids"][i, : a1 - a0 + 2].sum() == 0 and batch["token_type_ids"][i, a1 - a0 + 2 : n].all()


def test_whole_word_masking_hides_all_pieces(cache, tokenizer):
    examples = pt.make_pairs(cache, np.arange(len(cache.documents)), pt.PairOptions(), seed=0)
    batch = pt.collate(cache, examples, tokenizer, seed=0, probability=0.5, whole_words=True)
    original = torch.where(batch["labels"] != IGNORE, batch["labels"], batch["input_ids"])
    continues = torch.tensor([p.startswith("##") for p in tokenizer.convert_ids_to_tokens(list(range(tokenizer.vocab_size)))])[original]
    chosen = batch["labels"] != IGNORE
    inside = continues[:, 1:]
    assert inside.sum() > 20 and torch.equal(chosen[:, 1:][inside], chosen[:, :-1][inside])


def test_the_loss_equals_bert_for_pretraining(cache, tokenizer):
    from transformers import BertForPreTraining

    model = BertForPreTraining.from_pretrained(bl.BERT).eval()
    examples = pt.make_pairs(cache, np.arange(len(cache.documents)), pt.PairOptions(), seed=0)
    batch = pt.collate(cache, examples[examples[:, 4] != IGNORE][:8], tokenizer, seed=0)
    with torch.inference_mode():
        ours, theirs = pt.PretrainingLoss(model)(batch), model(**batch)
    assert ours["loss"].item() == pytest.approx(theirs.loss.item(), abs=1e-4)


def test_nothing_to_predict_gives_no_nan(cache, tokenizer):
    from transformers import BertForPreTraining

    model = BertForPreTraining.from_pretrained(bl.BERT).eval()
    examples = pt.make_pairs(cache, np.arange(3), pt.PairOptions(objective="none"), seed=0)
    batch = pt.collate(cache, examples, tokenizer, seed=0)
    batch["labels"] = torch.full_like(batch["labels"], IGNORE)
    assert pt.PretrainingLoss(model)(batch)["loss"].item() == 0


@pytest.mark.parametrize("options", [{"objective": "next"}, {"max_length": 8}, {"max_length": 1024}])
def test_bad_pair_options_are_refused(options):
    with pytest.raises(ValueError, match="not"):
        pt.PairOptions(**options)


def test_a_mix_above_one_reads_documents_again(cache):
    """A share of 2.5: each training document of a.txt twice or three times an epoch, those of b.txt.gz never."""
    documents = np.flatnonzero(cache.documents[:, 3] == 0)
    options = pt.PretrainOptions(tokens=10**9, mix={"a.txt": 2.5, "b.txt.gz": 0.0}, pairs=pt.PairOptions(objective="none", short=0.0))
    starts = []
    for rows, place in pt.training_batches(cache, documents, options, {"stage": 0, "epoch": 0, "index": 0, "tokens": 0}):
        if place["epoch"]:
            break
        starts += [row[0] for row in rows]
    times = np.bincount(np.searchsorted(cache.sentences, starts), minlength=len(cache.sentences))[cache.documents[documents, 0]]
    source = cache.documents[documents, 2]
    assert set(times[source == 0].tolist()) == {2, 3} and not times[source == 1].any()


def test_a_run_can_go_on_from_a_checkpoint_with_its_heads(cache):
    kept, new = (pt.start_from(bl.BERT, cache, keep_heads=keep) for keep in (True, False))
    from transformers import BertForPreTraining

    whole = BertForPreTraining.from_pretrained(bl.BERT).state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in kept.state_dict().items())
    changed = {name for name, value in new.state_dict().items() if not torch.equal(value, whole[name])}
    assert {name.split(".")[0] for name in changed} == {"bert", "cls"} and "bert.pooler.dense.weight" in changed
    assert not any(name.startswith(("bert.embeddings", "bert.encoder")) for name in changed)


def test_bfloat16_is_refused_where_the_processor_has_none(cache, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(pt, "cpu_has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="AVX512-BF16"):
        pt.pretrain(None, tokenizer, cache, tmp_path, pt.PretrainOptions(tokens=100, bfloat16=True))


@pytest.mark.skipif(not pt.cpu_has_bfloat16(), reason="this processor has no bfloat16")
def test_bfloat16_trains_like_float32(cache, tokenizer, tmp_path):
    """The same batches from the same start: losses agree to bfloat16's accuracy, and the weights stay float32."""
    from transformers import BertConfig, BertForPreTraining

    losses = {}
    for bfloat16 in (False, True):
        torch.manual_seed(0)
        config = BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
        model, output = BertForPreTraining(config), tmp_path / str(bfloat16)
        options = pt.PretrainOptions(tokens=8000, batch_tokens=200, bfloat16=bfloat16)
        log = pt.pretrain(model, tokenizer, cache, output, options, held_out_pairs=0, progress=False)
        assert model.config._attn_implementation == "sdpa"  # as it came
        losses[bfloat16] = [entry["mlm_loss"] for entry in log if entry["event"] == "train"]
        assert all(p.dtype == torch.float32 for p in BertForPreTraining.from_pretrained(output / "model").parameters())
    assert losses[True] != losses[False] and losses[True] == pytest.approx(losses[False], rel=0.01)


# ---------------------------------------------------------------- broken runs; tests/runs/kills.py kills real ones

RECIPE = dict(tokens=4000, batch_tokens=150, dropout=0.1, seed=3)


def run(cache, tokenizer, output, resume=False, learning_rate=6e-4, callback=None):
    """A tiny pretraining that saves after every step; its log, without speeds."""
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32))
    options = pt.PretrainOptions(**RECIPE, learning_rate=learning_rate)
    shares = {"evaluate_every": 0.25, "held_out_pairs": 4, "snapshots": (0.5,)}
    log = pt.pretrain(model, tokenizer, cache, output, options, resume=resume, save_minutes=0, callback=callback, progress=False, **shares)
    return [{name: value for name, value in entry.items() if name != "tokens_per_second"} for entry in log]


def weights_in(output):
    return torch.load(output / "training.pt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def unbroken(cache, tokenizer, tmp_path_factory):
    output = tmp_path_factory.mktemp("unbroken")
    return output, run(cache, tokenizer, output)


def assert_same(output, log, unbroken):
    theirs = weights_in(unbroken[0])
    assert log == unbroken[1] and all(torch.equal(value, theirs[name]) for name, value in weights_in(output).items())
    assert (output / "snapshots/0.5/model.safetensors").read_bytes() == (unbroken[0] / "snapshots/0.5/model.safetensors").read_bytes()


def test_nothing_that_was_due_is_forgotten_wherever_a_run_breaks(cache, tokenizer, unbroken, tmp_path, monkeypatch):
    """Broken right after each checkpoint in turn: evaluations, snapshot and running means of the log are those of an unbroken run."""
    save = pt.save_training

    def save_then_break(*arguments):
        save(*arguments)
        raise RuntimeError("power cut")

    monkeypatch.setattr(pt, "save_training", save_then_break)
    for life in range(unbroken[1][-1]["step"]):
        with pytest.raises(RuntimeError, match="power cut"):
            run(cache, tokenizer, tmp_path, resume=life > 0)
    monkeypatch.undo()
    assert_same(tmp_path, run(cache, tokenizer, tmp_path, resume=True), unbroken)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MiB; skipped where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount") or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_said_and_the_last_checkpoint_stays(cache, tokenizer, unbroken, small_disk):
    def fill(record):
        if record["step"] == 20:
            (small_disk / "others").write_bytes(bytes(shutil.disk_usage(small_disk).free - 2**20))

    with pytest.raises(OSError, match=r"No room is left .* last checkpoint \(training.pt\) is whole: free some room, then resume"):
        run(cache, tokenizer, small_disk, callback=fill)
    assert torch.load(small_disk / "training.pt", weights_only=True)["state"]["step"] == 19 and not list(small_disk.rglob("*.partial"))
    (small_disk / "others").unlink()
    assert_same(small_disk, run(cache, tokenizer, small_disk, resume=True), unbroken)


def test_a_disk_that_is_full_from_the_start_says_to_begin_again(cache, tokenizer, small_disk):
    (small_disk / "others").write_bytes(bytes(shutil.disk_usage(small_disk).free - 2**20))
    with pytest.raises(OSError, match="Nothing was saved yet: free some room, then begin again"):
        run(cache, tokenizer, small_disk)


def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(cache, tokenizer, tmp_path):
    with pytest.raises(FloatingPointError, match=r"Lower learning_rate \(now 1000000.0\) or lengthen warmup.*still holds the last good checkpoint"):
        run(cache, tokenizer, tmp_path, learning_rate=1e6)
    assert all(torch.isfinite(value).all() for value in weights_in(tmp_path).values())


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(PermissionError, match="mine"), pt._full_disk_is_said(tmp_path):
        raise PermissionError(13, "mine")
