"""Attention weights against plain transformers, and the panel that shows them."""

import pytest
import torch
from bs4 import BeautifulSoup

import bertlab as bl
from bertlab.checkpoints import load_model, resolve
from bertlab.widgets.attention_view import AVERAGE, MOST, AttentionView, look, names

TEXT = "The river bank was covered with wild flowers"


@pytest.fixture(scope="module")
def plain():
    """(L, heads, T, T) by transformers alone."""
    from transformers import AutoTokenizer, BertModel

    model = BertModel.from_pretrained(bl.BERT, attn_implementation="eager").eval()
    with torch.inference_mode():
        return torch.cat(model(**AutoTokenizer.from_pretrained(bl.BERT)(TEXT, return_tensors="pt"), output_attentions=True).attentions)


def test_weights_equal_plain_transformers_and_the_shared_model_keeps_its_own_attention(plain):
    model = load_model(resolve("BERT"))
    before = model.config._attn_implementation
    attention = bl.attention_weights(TEXT)
    torch.testing.assert_close(attention.weights, plain, atol=1e-5, rtol=0)
    assert model.config._attn_implementation == before != "eager"
    assert attention.special == (True, *[False] * 8, True) and repr(attention) == "Attention(6 layers, 12 heads, 10 tokens)"


def test_a_call_that_fails_leaves_the_models_own_attention(monkeypatch):
    model = load_model(resolve("BERT"))
    before = model.config._attn_implementation

    def broken(**_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(model, "forward", broken)
    with pytest.raises(RuntimeError):
        bl.attention_weights(TEXT)
    assert model.config._attn_implementation == before


def test_layers_and_heads_count_from_one(plain):
    for layer, head in ((1, 1), (6, 12), (3, 7)):
        assert look(TEXT, layer, head).weights[4] == pytest.approx(plain[layer - 1, head - 1, 4].tolist(), abs=1e-5)
    assert look(TEXT, 2).weights[0] == pytest.approx(plain[1, :, 0].mean(0).tolist(), abs=1e-5)


def test_the_list_is_sorted_and_its_bars_keep_the_order():
    result = look(TEXT, 6, 12, query=3)
    weights = [weight for _, weight in result.ranked]
    assert weights == sorted(weights, reverse=True) and sum(weights) == pytest.approx(1, abs=1e-4)
    rows = BeautifulSoup(AttentionView(TEXT).html, "html.parser").table.tbody.find_all("tr")
    bars = [row.find_all("td")[-1].text.count("█") for row in rows]
    assert bars == sorted(bars, reverse=True) and bars[0] > bars[-1]


def test_hiding_takes_targets_away_and_renormalises_nothing():
    shown, hidden = look(TEXT, 6, 12), look(TEXT, 6, 12, hide=True)
    assert hidden.weights == shown.weights and hidden.on_text == shown.on_text
    assert dict(hidden.ranked) == {token: weight for token, weight in shown.ranked if token not in ("[CLS]", "[SEP]")}
    panel = AttentionView(TEXT)
    assert "not shown" not in panel.html
    panel.hide.value = True
    heat = BeautifulSoup(panel.html, "html.parser").find_all("table")[1]
    head = [th.text for th in heat.thead.find_all("th")]
    assert head[1:] == [*TEXT.lower().split(), "not shown"] and "Nothing is renormalised" in panel.html
    rows = {tr.th.text: [float(td.text) for td in tr.find_all("td")] for tr in heat.tbody.find_all("tr")}
    assert "[CLS]" in rows  # hidden as a target, not as the one that looks
    for values in rows.values():
        assert sum(values) == pytest.approx(1, abs=0.006 * len(values))


def test_every_control_changes_the_result():
    panel = AttentionView(TEXT)
    assert (panel.result.layer, panel.result.head, panel.result.query, panel.result.hide) == (6, None, 0, False)
    assert "What [CLS] looks at: layer 6, average of all heads" in panel.html
    panel.layer.value, panel.head.value, panel.query.value = 2, 5, [3]
    assert "What bank looks at: layer 2, head 5" in panel.html
    panel.head.value, panel.query.value = AVERAGE, []  # nothing pressed: [CLS]
    assert (panel.result.layer, panel.result.head, panel.result.query) == (2, None, 0)
    before = panel.html
    panel.layer.value = 1
    assert panel.html != before


def test_a_new_text_offers_its_own_tokens():
    panel = AttentionView(TEXT)
    panel.query.value = [9]
    panel.text.value = "A rose is a rose"
    assert panel.query.words == ["[CLS]", "a (1)", "rose (2)", "is", "a (4)", "rose (5)", "[SEP]"] and panel.query.value == [0]
    assert panel.result.query == 0 and panel.result.tokens == ("[CLS]", "a", "rose", "is", "a", "rose", "[SEP]")
    panel.text.value = ""
    assert panel.query.words == [] and panel.result is None and "at least one word" in panel.html
    panel.text.value = TEXT
    assert panel.query.words == list(names(panel.result.tokens)) and panel.result is not None


def test_a_long_text_is_shown_in_part_and_says_so():
    panel = AttentionView("The cat sat. " * 12)
    count = len(panel.result.tokens)
    heat = BeautifulSoup(panel.html, "html.parser").find_all("table")[1]
    assert count == 50 and len(heat.tbody.find_all("tr")) == len(panel.query.words) == MOST == 20
    assert f"The map shows the first 20 tokens; the list is drawn from all {count}." in panel.html
    assert heat.thead.find_all("th")[-1].text == "not shown"
    panel.text.value = "word " * 600
    assert len(panel.result.tokens) == 512 and "BERT reads 512, so the rest was cut" in panel.html and len(panel.html) < 100_000


@pytest.mark.parametrize("choice, word", [({"layer": 0}, "layer"), ({"layer": 7}, "layer 7: choose 1 to 6"), ({"layer": 1, "head": 13}, "head"),
                                          ({"layer": 1, "head": 0}, "head"), ({"layer": 1, "query": 10}, "query 10: choose 0 to 9")])  # fmt: skip
def test_what_does_not_exist_is_refused(choice, word):
    with pytest.raises(ValueError, match=word):
        look(TEXT, **choice)


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "</script>'\"", "a\x00b", "שלום עולם", "👩\u200d👩\u200d👧", "\u200d", "x" * 5000])
def test_hostile_text_is_shown_as_text(text):
    panel = AttentionView(text)
    assert panel.result is not None
    assert not BeautifulSoup(panel._repr_mimebundle_()[0]["text/html"], "html.parser").find_all(["img", "script"])


def test_it_says_that_a_weight_is_no_explanation():
    assert "does not explain" in AttentionView(TEXT).html
