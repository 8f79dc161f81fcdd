"""The token inspector: which piece belongs to which word, what is cut, what is unknown and why."""

import pytest
from bs4 import BeautifulSoup

import bertlab as bl
from bertlab.datasets import documents
from bertlab.widgets.token_inspector import TokenInspector, render_tokens

SENTENCES = [d.sentences for d in documents()[::9]]


def words_of(text, pair=None, **options):
    return bl.inspect_tokens(text, pair, **options).all_words


def chips(html):
    """The words above the table, one text a box, a list for each segment."""
    return [[" ".join(li.text.split()) for li in ul.find_all("li")] for ul in BeautifulSoup(html, "html.parser").select("ul.bertlab-chips")]


@pytest.mark.parametrize("first, second", [sentences[:2] for sentences in SENTENCES])
def test_every_kept_piece_has_its_word_and_every_word_its_letters(first, second):
    result = bl.inspect_tokens(first, second, max_length=20)
    assert [p for w in result.all_words for p in w.pieces[: w.kept]] == [t for t, word in zip(result.tokens, result.words) if word is not None]
    assert sum(len(w.pieces) - w.kept for w in result.all_words) == result.cut
    for segment, text in enumerate((first, second)):
        assert "".join(w.text for w in result.all_words if w.segment == segment) == "".join(text.split())  # nothing of the text is missing


@pytest.mark.parametrize(
    "text, expected",
    [
        ("I like tea🙂", {"tea🙂": "no entry for the character 🙂 (U+1F642)"}),
        ("x" * 101, {"x" * 101: "101 characters, and a word may have 100"}),
        ("[UNK] is special", {"[UNK]": "itself was typed"}),
        ("A café in Zürich", {}),
        ("x" * 100, {}),
    ],
)
def test_unknown_words_and_why(text, expected):
    found = {w.text: w.unknown for w in words_of(text) if w.unknown}
    assert found.keys() == expected.keys()
    assert all(reason in found[word] for word, reason in expected.items())


def test_the_character_that_is_named_is_not_in_the_vocabulary():
    vocabulary = bl.checkpoints.load_tokenizer(bl.BERT).get_vocab()
    for text, letter in (("tea😀cup", "😀"), ("謝", "謝"), ("★😀", "😀")):
        (word,) = words_of(text)
        assert f"the character {letter} " in word.unknown and letter not in vocabulary
    assert "★" in vocabulary and words_of("tea★cup")[0].unknown == ""


def test_what_was_cut_is_said_in_words():
    panel = TokenInspector("The unforgettable screenplay ended.")
    assert "0 cut" in panel.html and "(cut)" not in panel.html
    panel.room.value = 5
    assert panel.result.cut == 5 and len(panel.result.tokens) == 5
    text = BeautifulSoup(panel.html, "html.parser").text
    assert "Lost, 3 of 5 words: screenplay ended ." in text and "Of unforgettable only un ##for is read." in text
    assert chips(panel.html) == [["[CLS]", "the", "unforgettable: un ##for ##get ##table (cut)", "screenplay (cut)", "ended (cut)", ". (cut)", "[SEP]"]]


def test_a_pair_is_shown_segment_by_segment_and_the_longer_text_is_cut():
    panel = TokenInspector("One two three four.", "Five.")
    assert chips(panel.html) == [["[CLS]", "one", "two", "three", "four", ".", "[SEP]"], ["five", ".", "[SEP]"]]
    panel.room.value = 8
    assert [w.text for w in panel.result.all_words if not w.kept] == ["four", "."]
    panel.text_pair.value = "  "
    assert chips(panel.html)[1:] == []


def test_a_long_text_is_shown_in_part_and_says_so():
    panel = TokenInspector("word " * 600)
    assert "512 tokens, 0 unknown, 90 cut" in panel.html and "Lost, 90 of 600 words" in panel.html and "and 75 more" in panel.html
    assert "first 60 of 512 tokens" in panel.html and "… and 540 more words" in panel.html
    assert len(panel.html) < 20_000


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "</script>'\"", "a\x00b", "שלום עולם", "👩\u200d👩\u200d👧", "\u200d", "&amp;" * 1250])
def test_hostile_text_is_shown_as_text(text):
    panel = TokenInspector(text, text)
    assert panel.result is not None
    page = BeautifulSoup(panel.html, "html.parser")
    assert {tag.name for tag in page.find_all()} <= {
        "div", "p", "b", "ul", "li", "span", "del", "code", "table", "caption", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    if not panel.result.all_words:
        assert "No word is left" in page.text


def test_a_word_is_not_named_unknown_when_it_was_cut():
    assert "Words that became" not in render_tokens(bl.inspect_tokens("one two three four tea🙂", max_length=5))


@pytest.mark.parametrize("room", [4, 513, 7.5, None])
def test_a_room_that_does_not_exist_is_refused(room):
    with pytest.raises(ValueError, match="5 to 512"):
        bl.inspect_tokens("text", max_length=room)


def test_an_empty_text_is_answered_in_words():
    panel = TokenInspector("fine")
    panel.text.value = " "
    assert panel.result is None and 'role="alert"' in panel.html and "at least one word" in panel.html
