"""Any text, any batch, any number, any mode: each public function answers, or says in words what was wrong with the input.

A few inputs for each function every day, always the same ones; thousands with `pytest -m soak`. What may come back: a result
without NaN, or a ValueError or CheckpointError that bertlab itself raises (none from inside torch or transformers).
"""

import contextlib
import dataclasses
import io
import math
import string
import tempfile
import traceback
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import bertlab as bl
from bertlab import datasets as data
from bertlab.fine_tuning import FitOptions
from bertlab.quiz import Option, Question

PACKAGE = str(Path(bl.__file__).parent)
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture, HealthCheck.large_base_example, HealthCheck.filter_too_much]
EVERYDAY = settings(max_examples=12, derandomize=True, deadline=None, database=None, suppress_health_check=CHECKS, phases=[Phase.generate])
SOAK = settings(max_examples=1000, deadline=None, database=None, suppress_health_check=CHECKS, print_blob=True)

# ---------------------------------------------------------------- inputs

WORDS = [
    "cat", "The", "bank", "[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "##ing", "unaffable", "don't", ".", "\u00e9", "e\u0301", "\u4e2d\u6587", "\U0001f408", "\u05d0\u05d1",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</div>", "&lt;", '"', "'", "\\", "{}", "%s", "\x00", "\u202e", "x" * 101, "\ufffd", "\n", "\r\n",
]  # fmt: skip
ANY_CHARACTER = st.characters(exclude_categories=())  # halves of surrogate pairs as well
texts = st.one_of(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=20).map(" ".join),
    st.text(max_size=50),
    st.text(ANY_CHARACTER, max_size=50),
    st.text(st.sampled_from("\u0300\u0301\u0308\u20dd\u0483"), max_size=20),  # combining marks
    st.text(st.sampled_from(" \t\n\r\u00a0\u2003\u3000\x0b\x1c\x85"), max_size=20),  # spaces
    st.text(st.sampled_from("\u200b\u200c\u200d\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2069\x00\x01\x7f"), max_size=20),  # invisible
    st.text(st.sampled_from(string.printable), max_size=200),
    st.text(st.sampled_from("a \ud800\udc00\udfff\U0001f408"), min_size=1, max_size=9),  # halves of a character
    st.builds(lambda text, n: (text * n)[:100_000], st.text(ANY_CHARACTER, min_size=1, max_size=12) | st.sampled_from(WORDS), st.integers(1, 100_000)),
)
short_texts = texts.map(lambda text: text[:300])
readable = short_texts.map(lambda text: text.encode(errors="replace").decode())  # what a file or a tokenizer can hold
WRONG = [None, 3, -1, 2.5, math.nan, math.inf, b"bytes", "", "mean", "3", [], ["a"], [None], {}, (), (1, 2), True, 10**30, object()]
wrong = st.sampled_from(WRONG)
text = st.one_of(texts, texts, texts, wrong)
few = st.one_of(st.lists(short_texts, min_size=1, max_size=4), st.lists(st.one_of(short_texts, short_texts, wrong), max_size=4), text)
whole = st.one_of(st.integers(-3, 12), st.integers(), wrong)
number = st.one_of(st.floats(-2, 2), st.floats(), whole)


@st.composite
def tensor(draw, shape=None, numbers="any"):
    """A tensor of any shape with up to four axes, or of `shape`; sometimes with a number in it that is not finite."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4)) if shape is None else shape
    drawn = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from([torch.float32, torch.float32, torch.float64, torch.float16, torch.int64, torch.bool])) if numbers == "any" else torch.float32
    made = torch.from_numpy(drawn.normal(scale=draw(st.sampled_from([0.0, 1.0, 1.0, 1e3])), size=shape)).to(kind)
    if made.numel() and made.is_floating_point() and draw(st.integers(0, 5)) == 0:
        made.view(-1)[0] = draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    return made


@st.composite
def batch(draw):
    """Hidden states and a mask that mostly fit."""
    b, t, h = (draw(st.integers(0 if draw(st.integers(0, 9)) == 0 else 1, 4)) for _ in range(3))
    mask = torch.tensor(draw(st.lists(st.lists(st.integers(0, 1), min_size=t, max_size=t), min_size=b, max_size=b)), dtype=torch.long).reshape(b, t)
    if draw(st.booleans()):
        mask[:, :1] = 1
    hidden = draw(tensor((b, t, h)))
    return (hidden, mask) if draw(st.integers(0, 4)) else (draw(tensor() | wrong), draw(tensor() | wrong))


mode = st.one_of(st.sampled_from(["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", "pooler"]), text)
rows = st.one_of(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), max_size=4), tensor(), wrong)
flat = st.one_of(st.lists(st.floats(-5, 5), max_size=12), st.lists(st.integers(0, 5), min_size=6, max_size=6), st.lists(number, max_size=4), tensor(), wrong)
exercise_number = st.one_of(st.sampled_from(["01.1", "02.1", "02.3", "10.2", "99.9"]), text)
kind = st.one_of(st.sampled_from(["next", *data.NEGATIVE_KINDS]), text)


class Made:
    """What calls need and inputs cannot bring: models and a tokenizer, all of width 8."""

    def __init__(self, folder: Path):
        from transformers import BertForQuestionAnswering, BertForTokenClassification, BertModel

        from bertlab.checkpoints import load_tokenizer

        torch.manual_seed(0)
        self.tokenizer = load_tokenizer(str(folder))
        self.encoder = BertModel.from_pretrained(folder).eval()
        self.classifier = bl.SentenceClassifier(self.encoder, pooling="mean").eval()
        self.tagger = BertForTokenClassification.from_pretrained(folder, num_labels=9).eval()
        self.reader = BertForQuestionAnswering.from_pretrained(folder).eval()


# name -> (inputs, call of the function with them); `m` is Made
CALLS = {
    "accuracy": (st.tuples(flat, flat), lambda m, a: bl.accuracy(*a)),
    "accuracy_by_kind": (st.tuples(flat, st.integers(0, 12)), lambda m, a: bl.accuracy_by_kind(a[0], data.sentiment()[: a[1]])),
    "anisotropy": (tensor() | wrong, lambda m, a: bl.anisotropy(a)),
    "answer_questions": (
        st.tuples(st.lists(st.tuples(short_texts, text), max_size=3), number),
        lambda m, a: bl.answer_questions(m.reader, m.tokenizer, [data.QaExample("1", c, q, "", -1) for q, c in a[0]], a[1]),
    ),
    "attention_weights": (text, lambda m, a: bl.attention_weights(a)),
    "bm25": (st.tuples(few, few, st.floats(0, 3) | number, st.floats(0, 1) | number), lambda m, a: bl.bm25(*a)),
    "bootstrap_gap": (st.tuples(flat, flat), lambda m, a: bl.bootstrap_gap(*a, draws=20)),
    "case": (st.tuples(exercise_number, whole), lambda m, a: bl.case(*a)),
    "check": (st.tuples(exercise_number, wrong | st.sampled_from([len, lambda *_: None, lambda: 1, lambda *a: a[0], 1 .__add__])), lambda m, a: bl.check(*a)),
    "check_answer": (st.tuples(whole, st.sampled_from("ABCDabcd ") | text, st.sampled_from(["final", "02"]) | text), lambda m, a: bl.check_answer(*a)),
    "classify": (st.tuples(few, whole), lambda m, a: bl.classify(m.classifier, m.tokenizer, a[0], batch_size=a[1])),
    "cosine": (st.one_of(tensor().map(lambda t: (t, t)), st.tuples(tensor((2, 3)), tensor((2, 3))), st.tuples(tensor() | wrong, tensor() | wrong)), lambda m, a: bl.cosine(*a)),
    "encode": (st.tuples(few, st.none() | few), lambda m, a: bl.encode(*a)),
    "entities": (st.lists(st.sampled_from(["O", "B-PER", "I-PER", "I-LOC"]), max_size=9) | few, lambda m, a: bl.entities(a)),
    "evaluate_search": (st.tuples(rows, st.lists(st.lists(st.integers(-1, 4), max_size=3), max_size=4) | wrong), lambda m, a: bl.evaluate_search(*a)),
    "evaluate_similarity": (
        st.tuples(st.lists(st.tuples(short_texts, short_texts, st.floats(0, 5)), min_size=2, max_size=5), mode, st.integers(-3, 3) | wrong),
        lambda m, a: bl.evaluate_similarity([data.SimilarityPair(*p, "ordinary") for p in a[0]], a[1], layer=a[2]),
    ),
    "find": (st.tuples(text, few, whole), lambda m, a: bl.find(*a)),
    "hint": (exercise_number, lambda m, a: bl.hint(a)),
    "inspect_tokens": (st.tuples(text, st.none() | text, st.integers(4, 513) | wrong), lambda m, a: bl.inspect_tokens(*a)),
    "mask_tokens": (
        st.tuples(
            tensor() | st.lists(st.integers(0, 30_000), min_size=1, max_size=30).map(torch.tensor) | wrong,
            st.floats(0.01, 0.99) | number, st.none() | tensor() | wrong, st.none() | whole, st.just((0.8, 0.1, 0.1)) | st.tuples(number, number, number) | wrong,
        ),
        lambda m, a: bl.mask_tokens(a[0], m.tokenizer, a[1], word_ids=a[2], seed=a[3], split=a[4]),
    ),
    "next_sentence_pairs": (st.tuples(st.lists(kind, max_size=3).map(tuple) | wrong, whole, whole), lambda m, a: bl.next_sentence_pairs(*a)),
    "parts": (text, lambda m, a: bl.parts(a)),
    "pool": (st.tuples(batch(), mode), lambda m, a: bl.pool(*a[0], a[1])),
    "predict_masked": (st.tuples(text, whole), lambda m, a: bl.predict_masked(*a)),
    "predict_next": (st.tuples(text, text, st.booleans()), lambda m, a: bl.predict_next(a[0], a[1], segments=a[2])),
    "predict_next_many": (st.tuples(st.lists(st.tuples(short_texts, short_texts) | wrong, max_size=3) | wrong, whole), lambda m, a: bl.predict_next_many(a[0], batch_size=a[1])),
    "predict_tags": (st.tuples(st.lists(st.lists(short_texts | wrong, max_size=4) | wrong, max_size=3) | wrong, whole), lambda m, a: bl.predict_tags(m.tagger, m.tokenizer, *a)),
    "quiz_html": (st.lists(readable, min_size=6, max_size=6), lambda m, a: _safe(bl.quiz_html([Question(a[0], a[1], tuple(Option(t, False, t) for t in a[2:]))]))),
    "quiz_questions": (st.sampled_from(["final", "02", "02_predict"]) | text, lambda m, a: bl.quiz_questions(a)),
    "recommend": (st.tuples(st.sampled_from(bl.guide.TASKS) | text, st.sampled_from(bl.guide.DATA) | text, st.sampled_from(bl.guide.LATENCY) | text), lambda m, a: bl.recommend(*a)),
    "register_pooler": (st.tuples(mode, wrong | st.sampled_from([lambda h, m: h[:, 0], lambda h, m: h, lambda h, m: None])), lambda m, a: _register(*a)),
    "senses": (st.sampled_from(["bank", "bat"]) | text, lambda m, a: bl.senses(a)),
    "sentence_vectors": (
        st.tuples(few, mode | st.lists(mode, max_size=3), st.integers(-3, 3) | wrong, whole, st.sampled_from(["torch", "onnx-int4"]) | text),
        lambda m, a: bl.sentence_vectors(a[0], a[1], layer=a[2], batch_size=a[3], backend=a[4]),
    ),
    "similarity_pairs": (st.sampled_from(["train", "test", None]) | text, lambda m, a: bl.similarity_pairs(a)),
    "solution": (exercise_number, lambda m, a: bl.solution(a)),
    "spearman_interval": (st.tuples(flat, flat | rows, st.none() | flat), lambda m, a: bl.spearman_interval(*a, draws=20)),
    "stream_vectors": (
        st.tuples(few, st.none() | st.just(["cpu"]) | st.just([]), st.sampled_from(["float32", "float16"]) | text, whole, whole), lambda m, a: _stream(*a),
    ),
    "train_siamese": (
        st.tuples(st.lists(st.tuples(short_texts, short_texts, st.integers(0, 1)) | wrong, max_size=2), st.sampled_from([*bl.sbert.LOSSES]) | text),
        lambda m, a: bl.train_siamese(bl.sbert.siamese(), a[0], a[1], FitOptions(epochs=1)),
    ),
    "word_overlap": (st.tuples(text, text), lambda m, a: bl.word_overlap(*a)),
    "word_vectors": (st.tuples(few, st.sampled_from(WORDS) | text, st.integers(-3, 3) | wrong), lambda m, a: bl.word_vectors(a[0], a[1], layer=a[2])),
    # classes that a learner makes
    "PairOptions": (st.tuples(st.integers(15, 513) | wrong, st.sampled_from(["nsp", "sop", "none"]) | text, number, number), lambda m, a: bl.PairOptions(*a)),
    "PretrainOptions": (st.tuples(whole, whole, number, number, number, number, whole, number), lambda m, a: bl.PretrainOptions(*a)),
    "SearchResult": (st.tuples(flat, whole), lambda m, a: (r := bl.SearchResult(a[0]), r.recall(a[1]), r.mrr, r.interval(a[1]), r.minus(r))),
    "SentenceClassifier": (st.tuples(whole, mode, number, whole, few), lambda m, a: bl.classify(bl.SentenceClassifier(m.encoder, *a[:4]), m.tokenizer, a[4])),
    "TextCache": (text, lambda m, a: bl.TextCache(a)),
    "pretrain": (st.tuples(st.lists(short_texts, min_size=1, max_size=8), st.sampled_from(["nsp", "sop", "none"])), lambda m, a: _pretrain(m, *a)),
}
NO_INPUT = {"documents", "guide_table", "pooling_modes", "progress", "quiz_parts"}
RESULTS = {"Encoded", "Hit", "Masked", "NextSentence", "Prediction", "Recommendation", "Tokens"}  # bertlab makes them, a learner reads them
SLOW = {"train_siamese": (2, 50), "pretrain": (2, 50), "stream_vectors": (4, 100), "next_sentence_pairs": (8, 500), "check": (8, 500)}  # name -> how many every day, and how many to soak


def _register(name, pooler):
    from bertlab import pooling

    before = dict(pooling._POOLERS)
    try:
        bl.register_pooler(name, pooler)
        return bl.pool(torch.ones(2, 3, 4), torch.ones(2, 3), name)
    finally:
        pooling._POOLERS.clear()
        pooling._POOLERS.update(before)


def _stream(sentences, devices, dtype, block, batch_size):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.npy"
        return np.array(bl.stream_vectors(sentences, file, devices=["cpu"] if devices is None else devices, dtype=dtype, block=block, batch_size=batch_size))


def _pretrain(m: Made, sentences: list[str], objective: str):
    from transformers import BertForPreTraining

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text.txt"
        file.write_text("\n".join(sentences), encoding="utf-8", errors="replace")
        cache = bl.TextCache.build([file], m.tokenizer, Path(folder) / "cache", held_out=0.0)
        model = BertForPreTraining(m.encoder.config)
        options = bl.PretrainOptions(tokens=60, batch_tokens=64, pairs=bl.PairOptions(max_length=16, objective=objective))
        bl.pretrain(model, m.tokenizer, cache, Path(folder) / "run", options, progress=False)
        return [p.detach() for p in model.parameters()]


# ---------------------------------------------------------------- what may come back


def finite(result, inside: str = "result") -> None:
    """No NaN anywhere in a result."""
    if isinstance(result, torch.Tensor):
        assert not result.isnan().any(), inside
    elif isinstance(result, np.ndarray):
        assert not np.isnan(result.astype(float)).any(), inside
    elif isinstance(result, float):
        assert not math.isnan(result), inside
    elif dataclasses.is_dataclass(result) and not isinstance(result, type):
        for field in dataclasses.fields(result):
            finite(getattr(result, field.name), f"{inside}.{field.name}")
    elif isinstance(result, dict):
        for key, value in result.items():
            finite(value, f"{inside}[{key!r}]")
    elif isinstance(result, (list, tuple)):
        for n, value in enumerate(result):
            finite(value, f"{inside}[{n}]")


def _safe(html: str) -> str:
    """HTML in which nothing of the input is a tag, and which can be sent."""
    assert "<script" not in html.lower() and "<img" not in html.lower(), html[:2000]
    html.encode()
    return html


def attempt(call) -> None:
    """Run `call`: a result without NaN, or a documented error in words, raised by bertlab itself."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            result = call()
        except (ValueError, bl.CheckpointError) as error:
            last = traceback.extract_tb(error.__traceback__)[-1].filename
            assert last.startswith(PACKAGE), f"{type(error).__name__} from {last}: {error}"
            words = str(error)
            assert len(words.split()) >= 4 and len(words) < 700, words
            words.encode()
            return
    finite(result)


@pytest.fixture(scope="module")
def made(tiny_bert):
    return Made(tiny_bert)


@pytest.fixture
def tiny(tiny_bert, monkeypatch):
    monkeypatch.setenv("BERTLAB_BERT", str(tiny_bert))
    monkeypatch.setenv("BERTLAB_SBERT", str(tiny_bert))


def repeat(profile: settings, strategy, body, examples: int | None = None) -> None:
    """Hypothesis runs `body` on inputs; on a failure it shows the smallest one."""
    test = given(strategy)(body)
    settings(profile, **({"max_examples": examples} if examples else {}))(test)()


@pytest.mark.parametrize("name", CALLS)
def test_any_input_gives_a_result_or_words(name, made, tiny):
    inputs, call = CALLS[name]
    repeat(EVERYDAY, inputs, lambda drawn: attempt(lambda: call(made, drawn)), SLOW.get(name, (None,))[0])


@pytest.mark.soak
@pytest.mark.parametrize("name", CALLS)
def test_thousands_of_inputs_give_a_result_or_words(name, made, tiny):
    inputs, call = CALLS[name]
    repeat(SOAK, inputs, lambda drawn: attempt(lambda: call(made, drawn)), SLOW.get(name, (None, None))[1])


@pytest.mark.parametrize("name", sorted(NO_INPUT))
def test_what_takes_no_input_answers(name):
    attempt(getattr(bl, name))


def test_every_public_name_is_covered():
    modules = {name for name in dir(bl) if isinstance(getattr(bl, name), types.ModuleType)}
    assert set(dir(bl)) - modules - {"__version__", "BERT", "SBERT", "CheckpointError"} == set(CALLS) | NO_INPUT | RESULTS, "Add the new name to CALLS."


# ---------------------------------------------------------------- panels

HOSTILE = '<script>alert(1)</script> <img src=x onerror="alert(1)"> </div>'


def panels() -> dict:
    w = bl.widgets
    return {
        "TokenInspector": lambda: w.TokenInspector(HOSTILE, HOSTILE),
        "AttentionView": lambda: w.AttentionView(HOSTILE),
        "PoolingBench": lambda: w.PoolingBench(HOSTILE, "A cat."),
        "MaskedWord": lambda: w.MaskedWord(HOSTILE),
        "NextSentence": lambda: w.NextSentence(HOSTILE, HOSTILE),
        "TrainingMonitor": lambda: w.TrainingMonitor(),
        "SimilarityMap": lambda: w.SimilarityMap([HOSTILE, "A cat."]),
        "TaskGuide": lambda: w.TaskGuide(),
        "Quiz": lambda: w.Quiz(),
    }


def turn(control, drawn: st.DataObject) -> None:
    """Give a control a value that its page could send."""
    import ipywidgets

    from bertlab.widgets.words import Words

    if isinstance(control, (ipywidgets.Text, ipywidgets.Textarea)):
        lines = st.lists(short_texts, max_size=14).map("\n".join)
        control.value = drawn.draw(lines | texts if isinstance(control, ipywidgets.Textarea) else texts)
    elif isinstance(control, ipywidgets.Dropdown):
        if control.options:
            control.index = drawn.draw(st.integers(0, len(control.options) - 1))
    elif isinstance(control, ipywidgets.BoundedIntText):
        control.value = drawn.draw(st.integers(control.min, control.max) | st.integers(control.min, min(control.max, control.min + 20)))
    elif isinstance(control, ipywidgets.Checkbox):
        control.value = drawn.draw(st.booleans())
    elif isinstance(control, Words):
        most = len(control.words) if control.many else min(1, len(control.words))
        control.value = drawn.draw(st.lists(st.integers(0, max(0, len(control.words) - 1)), max_size=most))
    else:
        raise AssertionError(f"{type(control).__name__} is a new kind of control: say here what its page can send.")


def record(drawn: st.DataObject, step: int) -> dict:
    size = st.floats(0, 1e6)
    samples = st.dictionaries(readable, st.lists(readable, max_size=4), max_size=2)
    return drawn.draw(
        st.fixed_dictionaries({"step": st.integers(0, step)}, optional={"loss": size, "share": st.floats(0, 1), "seconds_left": size})
        | st.fixed_dictionaries(
            {"step": st.just(step), "tokens": st.integers(0, 10**12), "event": st.sampled_from(["train", "evaluation"])},
            optional={"mlm_loss": size, "nsp_loss": size, "mlm_accuracy": st.floats(0, 1), "nsp_accuracy": st.floats(0, 1) | st.none(), "share": st.floats(0, 1), "tokens_per_second": size, "samples": samples},
        )
    )


def press(panel, drawn: st.DataObject, times: int) -> None:
    """Turn some controls, one after the other; after each the panel shows a result or says in words what is wrong."""
    _safe(panel.html)
    everything = [*panel._controls, *([panel.examples] if hasattr(panel, "examples") else [])]
    for step in range(times):
        if hasattr(panel, "record"):
            panel.record(record(drawn, step))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            turn(drawn.draw(st.sampled_from(everything)), drawn)
        shown = _safe(panel.html)
        assert "This failed:" not in shown, shown[:2000]
        assert (panel.result is None) == ("Please check:" in shown)
        finite(panel.result)
        assert ">nan<" not in shown.lower()
        _safe(panel._repr_mimebundle_()[0]["text/html"])


@pytest.mark.parametrize("name", panels())
def test_a_panel_shows_a_result_or_words(name, tiny):
    repeat(EVERYDAY, st.data(), lambda drawn: press(panels()[name](), drawn, 2))


@pytest.mark.soak
@pytest.mark.parametrize("name", panels())
def test_a_panel_shows_a_result_or_words_thousands_of_times(name, tiny):
    repeat(SOAK, st.data(), lambda drawn: press(panels()[name](), drawn, 3), 150)


def test_every_panel_is_covered():
    assert set(panels()) == set(bl.widgets.__all__), "Add the new panel."
