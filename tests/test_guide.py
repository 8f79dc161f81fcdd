"""The decision guide answers for everything that its control can ask, and sends nobody to a page that is not there."""

import itertools
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

import bertlab as bl
from bertlab import guide
from bertlab.widgets.task_guide import TaskGuide, render_recommendation

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
EVERY = list(itertools.product(guide.TASKS, guide.DATA, guide.LATENCY))


@pytest.mark.parametrize("asked", EVERY, ids=" / ".join)
def test_every_question_has_an_answer(asked):
    found = bl.recommend(*asked)
    assert found.representation and re.search(r"[a-z].*\.$", found.reason)
    assert len(found.reason) < 300 and "\u2014" not in found.reason


def test_the_notebooks_it_names_exist():
    named = {bl.recommend(*asked).notebook for asked in EVERY}
    assert not [name for name in named if not (NOTEBOOKS / f"{name}.ipynb").is_file()]


def test_every_notebook_about_a_task_is_named():
    named = {bl.recommend(*asked).notebook[:2] for asked in EVERY}
    assert named == {"03", "04", "05", "06", "07", "08", "09", "10"}


def test_token_tasks_are_never_pooled_and_comparisons_never_read_tokens():
    for task, data, latency in EVERY:
        representation = bl.recommend(task, data, latency).representation
        assert ("no pooling" in representation) == (task in ("tag words", "find an answer in a text"))
        assert ("vectors" in representation and "cross-encoder" not in representation) or "compare" not in task or latency == "seconds"


def test_what_must_be_fast_never_reads_pairs_and_needs_no_labels_that_are_not_there():
    for task, data, latency in EVERY:
        representation = bl.recommend(task, data, latency).representation
        if latency == "milliseconds":
            assert "cross-encoder" not in representation
        if data == "none":
            assert "fine-tuned" not in representation and "classifier" not in representation


def test_latency_matters_only_where_two_texts_meet():
    matters = {task for task, _, latency, _ in bl.guide_table() if latency != "either"}
    assert matters == {"compare two texts", "search many texts"}


def test_the_table_says_what_the_function_says():
    covered = set()
    for task, data, latency, found in bl.guide_table():
        for each in guide.LATENCY if latency == "either" else [latency]:
            assert bl.recommend(task, data, each).representation == found.representation
            covered.add((task, data, each))
    assert covered == set(EVERY)


@pytest.mark.parametrize("wrong", [("translate",), ("tag words", "some"), ("tag words", "none", "fast"), (None,)])
def test_an_unknown_choice_is_said_with_the_choices(wrong):
    with pytest.raises(ValueError, match="but the guide knows") as error:
        bl.recommend(*wrong)
    assert repr(wrong[-1]) in str(error.value)


def test_a_recommendation_is_frozen():
    with pytest.raises(FrozenInstanceError):
        bl.recommend("tag words").reason = "because"


def test_the_panel_follows_its_controls():
    panel = TaskGuide()
    for task, data, latency in EVERY:
        panel.task.value, panel.data.value, panel.latency.value = task, data, latency
        assert panel.result == bl.recommend(task, data, latency)
        assert f'href="{panel.result.notebook}.ipynb"' in panel.html
    assert [getattr(child, "description", "") for child in panel.children][1:4] == ["Task", "Labelled data", "Latency"]


def test_the_panel_says_what_one_other_choice_would_change():
    panel = TaskGuide("compare two texts", "hundreds or more", "milliseconds")
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in BeautifulSoup(panel.html, "html.parser").tbody.find_all("tr")]
    assert rows == [
        ["labelled data: none", "the same", "08_sentence_bert"],
        ["labelled data: a few dozen", "the same", "08_sentence_bert"],
        ["latency: seconds", "[CLS] of the pair, fine-tuned: a cross-encoder", "09_semantic_search"],
    ]


@pytest.mark.parametrize("asked", EVERY, ids=" / ".join)
def test_alternatives_are_one_choice_away(asked):
    task, data, latency = asked
    others = guide.alternatives(*asked)
    assert [value for _, value, _ in others] == [v for v in guide.DATA if v != data] + [v for v in guide.LATENCY if v != latency]
    for choice, value, found in others:
        assert found == (bl.recommend(task, value, latency) if choice == "labelled data" else bl.recommend(task, data, value))


def test_the_panel_begins_as_told_and_refuses_what_it_does_not_know():
    assert TaskGuide("tag words", latency="seconds").result == bl.recommend("tag words", "none", "seconds")
    with pytest.raises(ValueError, match="'translate'"):
        TaskGuide("translate")


def test_what_is_rendered_is_escaped():
    html = render_recommendation(bl.Recommendation("<b>", "a & b", '"><script>'))
    assert "<script>" not in html and "&lt;b&gt;" in html and "a &amp; b" in html
    html = render_recommendation(bl.recommend("tag words"), [("<i>", "<i>", bl.Recommendation("<i>", "", "<i>"))])
    assert "<i>" not in html


def test_questions_without_an_answer():
    """40 of them, unlike each other, unlike every question and wording that has an answer."""
    lines = (bl.checkpoints.data_folder() / "faq_unanswered.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len({line.lower() for line in lines}) == 40
    known = [text for f in bl.datasets.faq() for text in (f.question, *f.wordings)]
    closest = max((bl.word_overlap(line, text), line, text) for line in lines for text in known)
    assert closest[0] < 0.55, closest
    assert all(4 <= len(line.split()) <= 22 for line in lines)
