"""The panel about two sentences: what it asks, what it says is true, what its controls do."""

import pytest

import bertlab as bl
from bertlab.datasets import next_sentence_gallery, random_sentence
from bertlab.widgets.next_sentence import JudgedPair, judge_pair, render_judged
from bertlab.widgets.panel import as_text

A, B = "The last bus had already left.", "So they walked home in the rain."


@pytest.fixture
def panel():
    return bl.widgets.NextSentence(A, B)


def computations(panel):
    """A list that grows by the two sentences of each new computation."""
    seen, compute = [], panel.compute
    panel.compute = lambda: (seen.append((panel.sentence_a.value, panel.sentence_b.value)), compute())[1]
    return seen


def test_it_asks_the_nsp_head(panel):
    answer = bl.predict_next(A, B)
    assert panel.result.is_next == answer.is_next and panel.result.label == answer.label
    assert f"<b>{answer.is_next:.2f}</b>" in panel.html
    panel.sentence_b.value = "Violins need new strings every year."
    assert panel.result.is_next == bl.predict_next(A, "Violins need new strings every year.").is_next != answer.is_next


def test_segments_off_is_what_the_model_gets_and_what_is_shown(panel):
    assert "Segment 1: So they walked" in as_text(panel.html)
    panel.segments.value = False
    assert panel.result.is_next == bl.predict_next(A, B, segments=False).is_next
    assert "Segment 0: So they walked" in as_text(panel.html) and "Segment 1" not in panel.html


def test_label_0_means_follows():
    for is_next, words in ((0.9, "label 0, B follows A."), (0.1, "label 1, B does not follow A.")):
        assert words in as_text(render_judged(JudgedPair(A, B, is_next, True)))


def test_swap_exchanges_the_sentences_in_one_step(panel):
    seen = computations(panel)
    panel.swap.click()
    assert (panel.sentence_a.value, panel.sentence_b.value) == (B, A) and seen == [(B, A)]
    assert panel.result.is_next == bl.predict_next(B, A).is_next and not panel.swap.disabled
    panel.swap.click()
    assert (panel.result.sentence_a, seen) == (A, [(B, A)])  # the first result was kept


def test_the_nth_press_always_draws_the_same_sentence(panel):
    other = bl.widgets.NextSentence("Soup is hot.", "It burns.")
    drawn = []
    for number in (1, 2, 3):
        for each in (panel, other):
            each.another.click()
            assert each.seed.value == number and f"with seed {number}:" in each.html
        assert panel.sentence_b.value == other.sentence_b.value
        drawn.append(panel.sentence_b.value)
    assert panel.sentence_a.value == A and len(set(drawn)) == 3
    panel.seed.value = 1
    assert panel.sentence_b.value == drawn[0]
    panel.sentence_b.value = B
    assert "drawn" not in panel.html  # it is no longer the drawn sentence


def test_a_drawn_sentence_stands_where_it_is_said_to_stand():
    document, place = random_sentence(4)
    result = judge_pair(A, document.sentences[place], seed=4)
    assert document.title in result.origin and f"sentence {place + 1} " in result.origin


def test_the_gallery_fills_both_and_says_what_is_true(panel):
    for pair in next_sentence_gallery():
        seen = computations(panel)
        panel.examples.value = pair
        assert seen == [(pair.sentence_a, pair.sentence_b)]  # no result for half a pair
        words = as_text(panel.html)
        assert panel.result.known == pair and pair.truth in words and pair.lesson in words
        assert f"What is true: label {pair.label}" in words
        assert ("The model's choice is right." in words) == (panel.result.label == pair.label)


def test_the_gallery_shows_which_pair_it_is(panel):
    assert panel.examples.value == ""
    real, _, swapped, *_ = next_sentence_gallery()
    panel.examples.value = real
    panel.swap.click()
    assert panel.examples.value == swapped  # swapping the real pair gives the gallery's swapped one
    panel.sentence_b.value = B
    assert (panel.examples.value, panel.examples.index) == ("", 0) and "What is true" not in panel.html


def test_text_is_shown_as_text(panel):
    panel.sentence_a.value = "<img src=x onerror=alert(1)> & </script>"
    assert "<img" not in panel.html and "</script>" not in panel.html and "&lt;img src=x" in panel.html
    panel.sentence_b.value = "word " * 1000
    assert "BERT reads 512" in panel.html


def test_an_empty_sentence_is_said_in_words(panel):
    panel.sentence_b.value = " "
    assert panel.result is None and 'role="alert"' in panel.html and "sentence_b is empty" in panel.html
    panel.sentence_b.value = B
    assert panel.result.sentence_b == B
