"""bertlab bench, parts start and encoding: what they compare is comparable, and their rows make sense. No figure is tested."""

import sys

import numpy as np
import pytest

import bertlab as bl
from bertlab.backends import exported
from bertlab.bench import Options, encoding, start
from bertlab.bench.start import Answer
from bertlab.collector import paused
from bertlab.sbert import sentence_vectors

QUICK = Options(quick=True, threads=1)


# ---------------------------------------------------------------- start


def test_the_clock_stops_at_the_first_line():
    answer = start.ask("import time; print('soon', flush=True); time.sleep(0.5); print('late')", 1)
    assert answer.lines[:2] == ("soon", "late")


@pytest.mark.parametrize("code", ["1 / 0", "pass"])
def test_a_process_that_gives_no_answer_is_not_measured(code):
    with pytest.raises(RuntimeError, match="A process of the bench failed"):
        start.ask(code, 1)


def test_each_side_must_give_the_same_answer_with_a_real_model():
    ours, pipeline = Answer(1.0, ("paris 0.50001", start.REAL)), Answer(1.0, ("paris 0.5",))
    start.check(ours, pipeline)
    for wrong in (Answer(1.0, ("lyon 0.5",)), Answer(1.0, ("paris 0.6",))):
        with pytest.raises(RuntimeError, match="do not agree"):
            start.check(ours, wrong)
    with pytest.raises(RuntimeError, match="not from transformers"):
        start.check(Answer(1.0, ("paris 0.5", "bertlab.toy")), pipeline)


def test_rows_of_the_start(monkeypatch):
    for name, answer in (("BERTLAB", f"print('paris 0.5'); print({start.REAL!r})"), ("PIPELINE", "print('paris 0.5')"), ("IMPORTS", "print('imported 1')")):
        monkeypatch.setattr(start, name, answer)
    bare, first, imports = start.rows(QUICK)
    assert (bare.at_most, first.at_most, imports.at_most) == (100, 1.0, None)
    assert bare.sides["bertlab_ms"] > 0 and first.sides["pipeline_s"] > 0 and imports.sides["imports_s"] > 0


# ---------------------------------------------------------------- the collector


def test_the_collector_is_as_it_was():
    import gc

    with paused():
        assert not gc.isenabled()
        with paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_what_was_made_in_the_pause_can_be_collected():
    import gc
    import weakref

    class Ring:
        pass

    with paused():
        ring = Ring()
        ring.itself = ring
    gone = weakref.ref(ring)
    del ring
    gc.collect()
    assert gone() is None


def test_somebody_elses_frozen_objects_stay_frozen():
    import gc

    gc.freeze()
    try:
        with paused():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


# ---------------------------------------------------------------- encoding


def test_the_texts_are_mixed_and_always_the_same():
    texts = encoding.mixed(200)
    lengths = [len(text) for text in texts]
    assert texts == encoding.mixed(200) and texts != encoding.mixed(200, seed=1)
    assert min(lengths) < 60 and max(lengths) > 200


def test_sides_that_compute_something_else_are_found():
    one = np.eye(3, dtype=np.float32)
    encoding._agree({"a": one, "b": 2 * one})
    with pytest.raises(RuntimeError, match="a and b do not compute the same"):
        encoding._agree({"a": one, "b": one[::-1]})


def test_bertlab_and_the_stock_path_side_by_side():
    (row,) = encoding.against_stock(QUICK)  # it compares their vectors
    assert row.at_least == 1.0 and row.value > 0 and set(row.sides) == {"bertlab_s", "sentence_transformers_s"}


def test_a_peer_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(encoding, "find_spec", lambda name: None)
    (row,) = encoding.quality(QUICK)
    assert row.value is None and row.met is None and "pip install onnx onnxruntime" in row.note


def test_growth_is_measured_from_few_to_many():
    time, memory = encoding.growth(QUICK, "torch", 10_000)
    assert time.value > 0 and "8: " in time.note and memory.at_most == 64


# ---------------------------------------------------------------- sentence vectors


TEXTS = ["Rain.", "The committee has met three times since then.", "A cat sat.", "Snow fell on the town all night, and nobody came.", "Tea?"]


def test_vectors_come_in_the_order_of_the_texts(tiny_bert):
    alone = [sentence_vectors([text], model=str(tiny_bert))[0] for text in TEXTS]
    together = sentence_vectors(TEXTS, model=str(tiny_bert), batch_size=2)
    for one, other in zip(alone, together):
        assert bl.cosine(one, other) > 0.99999


def test_every_mode_from_one_pass_is_the_mode_alone(tiny_bert):
    modes = bl.pooling_modes()
    together = sentence_vectors(TEXTS, modes, model=str(tiny_bert))
    assert list(together) == modes
    for mode in modes:
        assert together[mode].allclose(sentence_vectors(TEXTS, mode, model=str(tiny_bert)), atol=1e-6)


def test_vectors_can_be_trained_on(tiny_bert):
    vectors = sentence_vectors(TEXTS, model=str(tiny_bert))
    assert not vectors.is_inference() and not vectors.requires_grad


@pytest.mark.parametrize(
    "arguments, message",
    [({"mode": []}, "at least one pooling mode"), ({"backend": "gpu"}, "There is no backend 'gpu'"), ({"backend": "onnx", "layer": 2}, "last layer only")],
)
def test_what_sentence_vectors_does_not_take(tiny_bert, arguments, message):
    with pytest.raises(ValueError, match=message):
        sentence_vectors(TEXTS, model=str(tiny_bert), **arguments)


def test_one_warning_for_all_long_and_unreadable_texts(tiny_bert):
    with pytest.warns(UserWarning) as caught:
        sentence_vectors(["word " * 600, "Rain.", "\U0001f9a0", "more " * 700], model=str(tiny_bert), batch_size=1)
    cut, unknown = (str(warning.message) for warning in caught)
    assert "702 tokens" in cut and "[UNK]" in unknown


def test_onnx_gives_the_same_vectors_and_eight_bits_nearly(tiny_bert, tmp_path, monkeypatch):
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    monkeypatch.setenv("BERTLAB_ONNX", str(tmp_path))
    found = {backend: sentence_vectors(TEXTS, model=str(tiny_bert), backend=backend, batch_size=2) for backend in ("torch", "onnx", "onnx-int8")}
    assert bl.cosine(found["torch"], found["onnx"]).min() > 0.9999
    assert 0.9 < bl.cosine(found["torch"], found["onnx-int8"]).min() < 0.999999
    assert len(list(tmp_path.iterdir())) == 2  # one file each, nothing else left behind


def test_a_backend_that_is_not_installed(tiny_bert, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="pip install onnx onnxruntime"):
        exported(str(tiny_bert), "onnx")
