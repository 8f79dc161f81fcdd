"""MaskedWord: hidden words against plain transformers, the corruption, the surprise, and the panel that joins them."""

import warnings

import pytest
import torch

import bertlab as bl
from bertlab.checkpoints import load_model, load_tokenizer
from bertlab.mlm import guess_hidden, mask_tokens, pseudo_perplexity, replay_masking, split_words, surprise
from bertlab.widgets import masked_word
from bertlab.widgets.masked_word import MOST_HIDDEN, Guesses, Replay, Strip, carry_over, hide_words, measure_surprise, render_guesses
from bertlab.widgets.words import Words

SENTENCE = "The cat sat on the mat."
HOSTILE = """<img src=x onerror="alert(1)"> </script> 'q' & \x00 \u200d שלום"""


@torch.inference_mode()
def plain(text: str) -> torch.Tensor:
    """Probabilities (T, V) from plain transformers."""
    return load_model(bl.BERT, "mlm")(**load_tokenizer(bl.BERT)(text, return_tensors="pt")).logits[0].softmax(-1)


def number(piece: str) -> int:
    return load_tokenizer(bl.BERT).convert_tokens_to_ids(piece)


# ---------------------------------------------------------------- concept: bertlab.mlm


@pytest.mark.parametrize("text", [SENTENCE, "It's  a\tthermometer [MASK], don't!", "Ünïted\x00 שלום \u200d 你好 " + "x" * 300])
def test_words_are_exact_pieces_of_the_text(text):
    words = split_words(text)
    assert all(text[w.start : w.end] == w.text for w in words)
    positions = [position for w in words for position in w.tokens]
    assert positions == list(range(1, len(bl.inspect_tokens(text).tokens) - 1))
    assert [piece for w in words for piece in w.pieces] == list(bl.inspect_tokens(text).tokens[1:-1])


def test_together_hides_all_in_one_sentence():
    cat, mat = guess_hidden(SENTENCE, [5, 1])
    p = plain("The [MASK] sat on the [MASK].")
    for place, position, piece in ((cat, 2, "cat"), (mat, 6, "mat")):
        assert place.piece == piece and place.probability == pytest.approx(p[position, number(piece)].item(), abs=2e-6)
        assert place.rank == int((p[position] > p[position, number(piece)]).sum()) + 1
        assert place.guesses[0].probability == pytest.approx(p[position].max().item(), abs=2e-6)


def test_one_at_a_time_shows_the_others():
    cat, mat = guess_hidden(SENTENCE, [1, 5], together=False)
    assert cat.probability == pytest.approx(plain("The [MASK] sat on the mat.")[2, number("cat")].item(), abs=2e-6)
    assert mat.probability == pytest.approx(plain("The cat sat on the [MASK].")[6, number("mat")].item(), abs=2e-6)
    assert cat.probability != pytest.approx(guess_hidden(SENTENCE, [1, 5])[0].probability, abs=1e-4)


def test_a_word_of_several_pieces_gets_one_mask_a_piece():
    places = guess_hidden("The thermometer broke.", [1])
    p = plain("The [MASK] [MASK] [MASK] broke.")
    assert [(q.word, q.piece) for q in places] == [(1, "the"), (1, "##rm"), (1, "##ometer")]
    assert [q.probability for q in places] == pytest.approx([p[2 + i, number(q.piece)].item() for i, q in enumerate(places)], abs=2e-6)


def test_a_mask_of_the_text_stays_hidden_and_has_no_true_piece():
    (mask, mat) = guess_hidden("The [MASK] sat on the mat.", [5], together=False)
    assert (mask.word, mask.piece, mask.rank, mask.probability) == (1, None, None, None)
    assert mat.probability == pytest.approx(plain("The [MASK] sat on the [MASK].")[6, number("mat")].item(), abs=2e-6)
    assert mask.guesses[0].token == bl.predict_masked("The [MASK] sat on the mat.")[0][0].token


@pytest.mark.parametrize("hidden", [[7], [-1]])
def test_words_that_are_not_there_are_refused(hidden):
    with pytest.raises(ValueError, match="7 words"):
        guess_hidden(SENTENCE, hidden)


def test_the_replay_is_mask_tokens():
    ids = torch.tensor([bl.inspect_tokens(SENTENCE).input_ids])
    fates = set()
    for seed in range(40):
        tokens, masked = replay_masking(SENTENCE, 0.5, seed), mask_tokens(ids, load_tokenizer(bl.BERT), 0.5, seed=seed)
        assert [number(t.seen) for t in tokens] == masked.input_ids[0, 1:-1].tolist()
        assert [t.fate is not None for t in tokens] == (masked.labels[0, 1:-1] != -100).tolist()
        for t in tokens:
            assert {"[MASK]": t.seen == "[MASK]", "random": t.seen not in ("[MASK]", t.piece)}.get(t.fate, t.seen == t.piece)
            assert (t.probability is None) == (t.fate is None)
        fates |= {t.fate for t in tokens}
    assert fates == {None, "[MASK]", "random", "kept"}


def test_surprise_hides_each_piece_in_turn(monkeypatch):
    monkeypatch.setattr("bertlab.mlm.TOKENS_AT_ONCE", 20)  # two rows of nine tokens a pass
    found = surprise(SENTENCE)
    pieces = [s.piece for s in found]
    for i in (0, 1, 6):
        p = plain(" ".join([*pieces[:i], "[MASK]", *pieces[i + 1 :]]))[i + 1, number(pieces[i])]
        assert found[i].bits == pytest.approx(-p.log2().item(), abs=1e-4)
    assert pseudo_perplexity(found) == pytest.approx(2 ** (sum(s.bits for s in found) / 7))


def test_surprise_skips_a_mask_of_the_text():
    assert [s.piece for s in surprise("The [MASK] sat.")] == ["the", "sat", "."]
    with pytest.raises(ValueError, match="nothing but"):
        surprise("[MASK]")


# ---------------------------------------------------------------- results and their HTML


def test_the_true_word_is_shown_even_if_it_is_no_good_guess():
    html = render_guesses(hide_words("He ate a cup of thermometers.", [1, 4]))
    assert html.count("hidden</td>") == 2  # once a place, among the guesses or below them
    assert "Guesses for word 2, ate" in html and "Guesses for word 5, of" in html


def test_several_pieces_are_said():
    html = render_guesses(hide_words("The thermometer broke.", [1]))
    assert "<b>thermometer</b> has 3 pieces: the ##rm ##ometer" in html and html.count("<table") == 3


def test_limits_are_said():
    with pytest.raises(ValueError, match=f"13 words are hidden: hide at most {MOST_HIDDEN}"):
        hide_words("word " * 20, range(13))
    with pytest.raises(ValueError, match="200 pieces"):
        measure_surprise("word " * 200)


@pytest.mark.parametrize(
    "old, new, pressed, moved",
    [("a b c", "a b c", [0, 2], [0, 2]), ("a b c", "x y a b c", [1], [3]), ("a b c", "b c", [0, 1], [0]), ("a b", "", [1], []), ("a b c", "a x c", [1], [1])],
)
def test_pressed_words_follow_an_edit(old, new, pressed, moved):
    assert carry_over(old.split(), new.split(), pressed) == moved


# ---------------------------------------------------------------- the panel


@pytest.fixture
def panel():
    return bl.widgets.MaskedWord(SENTENCE)


@pytest.fixture
def calls(monkeypatch):
    """The texts that hide_words was asked for."""
    asked, real = [], hide_words
    monkeypatch.setattr(masked_word, "hide_words", lambda text, *rest: asked.append(text) or real(text, *rest))
    return asked


def test_it_begins_with_one_hidden_word(panel):
    assert isinstance(panel.result, Guesses) and panel.result.masked == ("The [MASK] sat on the mat.",)
    assert panel.words.words == ["The", "cat", "sat", "on", "the", "mat", "."] and panel.words.value == [1]
    assert bl.widgets.MaskedWord("A [MASK] sat.").words.value == []


def test_the_words_follow_the_text_in_one_computation(panel, calls):
    panel.words.value = [5]
    panel.text.value = "The old cat sat on the mat."
    assert calls == [SENTENCE, "The old cat sat on the mat."]
    assert panel.words.words[:3] == ["The", "old", "cat"] and panel.words.value == [6]
    panel.text.value = "Rain."
    assert panel.words.value == [] and "Press a word" in panel.html
    panel.text.value = "Rain [MASK]."
    assert panel.result.places[0].piece is None and len(calls) == 4


def test_one_message_brings_the_new_words_to_the_page(panel, monkeypatch):
    sent = []
    monkeypatch.setattr(type(panel.words), "_send", lambda self, msg, buffers=None: sent.append((type(self).__name__, sorted(msg["state"]))) if "state" in msg else None)
    panel.text.value = "The cat slept."
    assert [keys for name, keys in sent if name == "Words"] == [["value", "words"]]


def test_all_at_once_and_one_at_a_time_differ(panel):
    panel.words.value = [1, 5]
    together = panel.result
    panel.passes.value = "one at a time"
    assert together.masked == ("The [MASK] sat on the [MASK].",) and len(panel.result.masked) == 2
    assert "The cat sat on the [MASK]." in panel.html
    assert [p.probability for p in panel.result.places] != [p.probability for p in together.places]


def test_views_compute_only_what_they_show(panel, calls):
    panel.view.value = "surprise"
    assert isinstance(panel.result, Strip) and "Pseudo-perplexity" in panel.html and panel.html.count("<tr>") == 8
    assert panel.words.layout.display == panel.seed.layout.display == "none"
    panel.view.value = "80/10/10"
    assert isinstance(panel.result, Replay) and panel.seed.layout.display is None
    before = panel.result
    panel.passes.value = "one at a time"
    assert panel.result is before and calls == []
    panel.percent.value = 60
    assert panel.result.probability == 0.6 and "Seed 0:" in panel.html and "became" in panel.html
    panel.seed.value = 3
    assert panel.result.seed == 3 and panel.result.tokens == tuple(replay_masking(SENTENCE, 0.6, 3))


def test_nothing_chosen_is_said(panel):
    panel.view.value, panel.percent.value = "80/10/10", 1
    assert "0 of 7 pieces" in panel.html and "NaN" in panel.html


@pytest.mark.parametrize("view", ["guesses", "80/10/10", "surprise"])
def test_hostile_text_is_shown_as_text(panel, view):
    panel.view.value, panel.percent.value = view, 60
    panel.text.value = HOSTILE
    panel.words.value = list(range(8))
    assert "role=\"alert\"" not in panel.html and "<img" not in panel.html and "</script" not in panel.html
    for bad, said in (("", "empty"), ("\x00", "no word")):
        panel.text.value = bad
        assert said in panel.html and panel.result is None and panel.words.words == []


def test_long_text_is_cut_and_said(panel):
    panel.text.value = "word " * 600
    assert len(panel.words.words) == 510 and "512" in panel.html
    panel.words.value = [509]
    assert panel.result.places[0].piece == "word"


def test_the_page_without_a_kernel(panel):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data, _ = panel._repr_mimebundle_()
    assert "Hide: <code>cat</code>" in data["text/html"] and "Guesses for word 2, cat" in data["text/plain"]


def test_words_check_what_is_pressed():
    row = Words(words=["a", "b"], value=[1], many=False)
    for wrong in ([2], [0, 1]):
        with pytest.raises(Exception, match="word"):
            row.value = wrong
    row.replace(["c"], [0])
    assert row.said() == "c"
