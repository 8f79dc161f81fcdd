"""The pooling bench: the numbers are the poolers', padding is told apart from chance, a broken plugin is one row."""

import math

import pytest
import torch

import bertlab as bl
from bertlab.pooling import _POOLERS, padding_reaches, register_pooler
from bertlab.widgets.panel import as_text
from bertlab.widgets.pooling_bench import compare_pooling, graded_examples, render_pooled

A, B = "Rain fell.", "It had rained all day long in the hills."


@pytest.fixture
def plugins():
    """Modes as plugins would add them; gone after the test."""
    before = dict(_POOLERS)
    yield register_pooler
    _POOLERS.clear()
    _POOLERS.update(before)


def row(panel, mode):
    return next(line for line in as_text(panel.html).splitlines() if line.startswith(mode + " "))


@pytest.mark.parametrize("layer", [-1, 0, 3])
def test_with_the_mask_it_is_pool_and_padding_changes_nothing(layer):
    encoded = [bl.encode(text) for text in (A, B)]
    result = compare_pooling(A, B, layer, padding=17)
    for mode in bl.pooling_modes():
        a, b = (bl.pool(e.hidden_states[layer], e.attention_mask, mode) for e in encoded)
        assert result.with_mask[mode] == pytest.approx(float(bl.cosine(a, b)), abs=1e-4)
    assert result.layer == layer % len(encoded[0].hidden_states) and result.careless == ()


def test_without_the_mask_it_is_the_mistake():
    tokenizer, model = bl.checkpoints.load_tokenizer(bl.BERT), bl.checkpoints.load_model(bl.BERT)
    wrong = []
    for text in (A, B):
        length = len(tokenizer(text)["input_ids"]) + 9
        batch = tokenizer(text, padding="max_length", max_length=length, return_tensors="pt")
        with torch.inference_mode():
            wrong.append(model(**batch).last_hidden_state.mean(1))
    result = compare_pooling(A, B, padding=9)
    assert result.without_mask["mean"] == pytest.approx(float(bl.cosine(*wrong)), abs=1e-4)
    right = bl.pool(bl.encode(A).hidden_states[-1], bl.encode(A).attention_mask)
    assert result.kept["mean"][0] == pytest.approx(float(bl.cosine(wrong[0], right)), abs=1e-4)
    assert result.kept["mean"][0] < 0.95


def test_only_cls_cannot_be_touched_by_padding():
    for padding in (0, 5):
        assert compare_pooling(A, B, padding=padding).untouchable == ("cls",)
    hidden = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    assert not any(padding_reaches(mode, hidden, masked=True) for mode in bl.pooling_modes())
    assert [mode for mode in bl.pooling_modes() if not padding_reaches(mode, hidden, masked=False)] == ["cls"]


def test_without_padding_the_mask_makes_no_difference():
    result = compare_pooling(A, B)
    assert result.with_mask == result.without_mask
    assert all(k == pytest.approx((1, 1), abs=1e-5) for k in result.kept.values())
    assert "There is no padding here" in render_pooled(result)


BROKEN = {
    "raises": (lambda hidden, mask: hidden / [], "TypeError"),
    "hostile": (lambda hidden, mask: exec("raise RuntimeError('<img src=x onerror=alert(1)>')"), "RuntimeError: &lt;img"),
    "one_a_token": (lambda hidden, mask: hidden, "not one vector for each"),
    "nothing": (lambda hidden, mask: None, "returned NoneType"),
    "not_finite": (lambda hidden, mask: hidden[:, 0] * math.nan, "not finite"),
    "only_without_padding": (lambda hidden, mask: hidden[:, 0] if mask.all() else 1 / 0, "ZeroDivisionError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_mode_is_one_row_in_words(name, plugins):
    whole = compare_pooling(A, B, padding=4)
    pooler, words = BROKEN[name]
    plugins(name, pooler)
    panel = bl.widgets.PoolingBench(A, B)
    panel.padding.value = 4
    assert list(panel.result.failed) == [name] and words in panel.html and "<img" not in panel.html
    assert row(panel, name).split()[1] == "failed" and "alert" not in panel.html.replace("alert(1)", "")
    assert panel.result.with_mask == whole.with_mask and len(panel.result.with_mask) == len(bl.pooling_modes()) - 1


def test_a_mode_that_ignores_its_mask_is_named(plugins):
    plugins("plain_mean", lambda hidden, mask: hidden.mean(1))
    result = compare_pooling(A, B, padding=8)
    assert result.careless == ("plain_mean",) and result.with_mask["plain_mean"] == result.without_mask["plain_mean"]
    words = as_text(render_pooled(result))
    assert "although they are given the mask: plain_mean." in words
    assert "plain_mean" not in words.split("Modes that need the mask:")[1].splitlines()[0]


def test_the_difference_is_that_of_the_numbers_beside_it():
    panel = bl.widgets.PoolingBench(A, B)
    panel.padding.value = 40
    for mode in bl.pooling_modes():
        _, right, _, wrong, difference, *_ = row(panel, mode).split()
        assert float(difference) == pytest.approx(float(wrong) - float(right), abs=1e-9)


def test_the_list_holds_graded_pairs_from_low_to_high():
    pairs = list(graded_examples().values())
    grades = [p.grade for p in pairs]
    assert grades == sorted(grades) and grades[0] == 0 and grades[-1] == 5
    assert {p.kind for p in pairs} == {"ordinary", "shared_words", "few_shared_words"}
    assert all(p in bl.similarity_pairs() for p in pairs) and len(set(pairs)) == len(pairs)


def test_choosing_a_pair_loads_it_with_its_grade():
    panel = bl.widgets.PoolingBench(A, B)
    assert panel.result.grade is None and "not a pair of data/" in panel.html and panel.examples.value == ""
    for text, pair in panel.examples.options[1:]:
        panel.examples.value = pair
        assert (panel.sentence_a.value, panel.sentence_b.value) == (pair.sentence_a, pair.sentence_b)
        assert panel.result.graded == pair and f"<b>{pair.grade:g} of 5</b>" in panel.html and text.startswith(f"{pair.grade:g} of 5")
    panel.sentence_a.value = A
    assert panel.examples.value == "" and panel.result.grade is None


def test_the_order_of_a_graded_pair_does_not_matter():
    pair = bl.similarity_pairs()[0]
    assert compare_pooling(pair.sentence_b, pair.sentence_a).grade == pair.grade


def test_the_panel_follows_layer_and_padding():
    panel = bl.widgets.PoolingBench(A, B)
    panel.layer.value, panel.padding.value = 2, 3
    assert (panel.result.layer, panel.result.padding) == (2, 3) and "at layer 2, 3 padding tokens each" in panel.html
    assert panel.result.with_mask == compare_pooling(A, B, 2, 3).with_mask


@pytest.mark.parametrize("call, words", [
    (lambda: compare_pooling(A, B, layer=99), "no layer 99: choose from 0"),
    (lambda: compare_pooling(A, " "), "sentence_b is empty"),
    (lambda: compare_pooling(A, B, padding=-1), "padding can be 0 to"),
    (lambda: compare_pooling(A, "word " * 500, padding=64), "Sentence B takes 502 of the 512 tokens .* 0 to 10, not 64"),
])  # fmt: skip
def test_bad_requests_are_said_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_cut_sentence_is_noted():
    panel = bl.widgets.PoolingBench("word " * 600, B)
    assert panel.result is not None and "BERT reads 512" in panel.html
