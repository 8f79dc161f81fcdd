"""Twenty questions, each option with its reason; one of four is right, and nothing but knowledge gives it away."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

import bertlab as bl
from bertlab.quiz import LETTERS, Checked, Option, Question
from bertlab.widgets.quiz import Asked, Quiz, render_asked

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
QUESTIONS = bl.quiz_questions()
PARTS = {part: bl.quiz_questions(part) for part in bl.quiz_parts()}
SHORT = [q for part, questions in PARTS.items() if part != "final" for q in questions]


def right_letter(question: Question) -> str:
    return next(letter for letter, option in zip(LETTERS, question.options) if option.right)


def test_every_notebook_has_its_questions():
    assert [part for part in PARTS if len(part) == 2] == [f"{n:02}" for n in range(1, 11)]
    assert {len(PARTS[f"{n:02}"]) for n in range(1, 11)} == {3} and len(PARTS["final"]) == 20
    assert all(f"{n:02}_predict" in PARTS for n in range(1, 11))
    for part, questions in PARTS.items():
        assert part == "final" or {q.notebook[:2] for q in questions} == {part[:2]}
    texts = [q.text for questions in PARTS.values() for q in questions]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("part", PARTS)
def test_the_file_is_well_formed(part):
    rows = json.loads((bl.checkpoints.data_folder() / "quiz" / f"{part}.json").read_text(encoding="utf-8"))
    for row in rows:
        assert set(row) == {"question", "notebook", "options"} and len(row["options"]) == 4
        for option in row["options"]:
            assert set(option) == {"text", "right", "why"} and isinstance(option["right"], bool)


@pytest.mark.parametrize("question", [*QUESTIONS, *SHORT], ids=lambda question: question.text[:40])
def test_one_option_is_right_and_every_option_has_its_reason(question):
    assert sum(option.right for option in question.options) == 1
    assert len({option.text for option in question.options}) == len({option.why for option in question.options}) == 4
    assert question.text.endswith("?")
    for option in question.options:
        assert len(option.why) >= 20 and option.why.endswith((".", "?")), option
        assert "\u2014" not in option.text + option.why


def test_neither_place_nor_length_gives_the_answer_away():
    assert Counter(map(right_letter, QUESTIONS)) == dict.fromkeys(LETTERS, 5)
    for pick in (max, min):
        picked = sum(pick(q.options, key=lambda option: len(option.text)).right for q in QUESTIONS)
        assert picked <= 8, f"the {pick.__name__} length is right {picked} times"
    longer = sum(len(o.why) for q in QUESTIONS for o in q.options if o.right) / 20
    others = sum(len(o.why) for q in QUESTIONS for o in q.options if not o.right) / 60
    assert others > 0.6 * longer  # wrong options are explained as well as right ones


def test_the_short_quizzes_give_nothing_away_either():
    of_letter = Counter(map(right_letter, SHORT))
    assert max(of_letter.values()) <= 0.4 * len(SHORT) and min(of_letter[letter] for letter in LETTERS) >= 0.15 * len(SHORT)
    for pick in (max, min):
        assert sum(pick(q.options, key=lambda option: len(option.text)).right for q in SHORT) <= 0.45 * len(SHORT)


def test_the_whole_course_is_asked():
    asked = [question.notebook for question in QUESTIONS]
    assert asked == sorted(asked)
    assert {name[:2] for name in asked} == {f"{n:02}" for n in range(1, 11)}
    assert not [name for name in set(asked) if not (NOTEBOOKS / f"{name}.ipynb").is_file()]


def test_numbers_in_the_quiz_are_right():
    assert 10_000 * 9_999 // 2 == 49_995_000 and "49,995,000" in QUESTIONS[17].options[1].why
    assert QUESTIONS[16].options[3].text == "31" and QUESTIONS[16].options[3].right


def test_check_answer():
    for number, question in enumerate(QUESTIONS, 1):
        marks = [bl.check_answer(number, letter) for letter in LETTERS]
        assert [mark.right for mark in marks] == [option.right for option in question.options]
        assert marks[0] == bl.check_answer(number, " a ") == Checked("A", question.options[0].right, question.options[0].why, question.notebook)


@pytest.mark.parametrize(("number", "letter", "words"), [(0, "A", "no question 0"), (21, "A", "from 1 to 20"), (1, "E", "no option 'E'"), (1, "", "no option ''"), (1, "AB", "no option 'AB'")])
def test_what_cannot_be_checked_is_said(number, letter, words):
    with pytest.raises(ValueError, match=words):
        bl.check_answer(number, letter)


def test_the_page_needs_no_kernel():
    """Plain HTML: every option opens to its verdict and reason, none is open, nothing runs."""
    page = BeautifulSoup(bl.quiz_html(QUESTIONS), "html.parser")
    assert not page.find_all(["script", "style", "input", "button"])
    opened = page.find_all("details")
    assert len(opened) == 80 and not any(d.has_attr("open") for d in opened)
    options = [option for question in QUESTIONS for option in question.options]
    for details, option in zip(opened, options):
        summary = details.summary.get_text()
        assert summary[3:] == option.text and option.why not in summary and "Right." not in summary
        assert details.p.get_text() == f"{'Right.' if option.right else 'Not this one.'} {option.why}"
    assert len(page.find_all("a")) == 20


def test_what_is_rendered_is_escaped():
    question = Question("<b>?", '"><script>', tuple(Option("<i>", i == 0, "a & b") for i in range(4)))
    for html in (bl.quiz_html((question,)), render_asked(Asked(1, 1, True, question, Checked("A", True, "a & b", '"><script>')))):
        assert not re.search("<script>|<i>|<b>\\?", html) and "a &amp; b" in html


def test_the_panel_marks_an_answer_and_forgets_it_at_the_next_question():
    panel = Quiz()
    assert panel.result == Asked(1, 20, True, QUESTIONS[0], None) and QUESTIONS[0].options[0].why not in BeautifulSoup(panel.html, "html.parser").get_text()
    for letter in LETTERS:
        panel.answer.value = letter
        assert panel.result.checked == bl.check_answer(1, letter)
        assert panel.result.checked.why in BeautifulSoup(panel.html, "html.parser").get_text()
    panel.number.value = 20
    assert panel.answer.value == "choose" and panel.result == Asked(20, 20, True, QUESTIONS[19], None)
    panel.number.value = 3
    assert panel.result.number == 3
    assert [getattr(child, "description", "") for child in panel.children][1:3] == ["Question", "Answer"]


@pytest.mark.parametrize("part", PARTS)
def test_the_page_without_a_kernel_has_every_question_folded(part):
    data, _ = Quiz(part)._repr_mimebundle_()
    assert data["text/html"].endswith(f"{bl.quiz_html(PARTS[part])}</section>")
    title = "Predict" if part.endswith("_predict") else "Quiz"
    number = "1. " if len(PARTS[part]) > 1 else ""
    assert data["text/plain"].startswith(f"{title}\n{number}{PARTS[part][0].text}")
    assert ("Read again" in data["text/html"]) == (part == "final")
    assert not any(option.why in data["text/plain"] for option in PARTS[part][0].options)


def test_the_text_without_a_kernel_has_no_verdict():
    data, _ = Quiz("final", 3)._repr_mimebundle_()
    assert data["text/plain"].startswith(f"Quiz\n3. {QUESTIONS[2].text}")
    assert not any(option.why in data["text/plain"] for option in QUESTIONS[2].options)
