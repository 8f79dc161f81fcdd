"""Every exercise: its solution passes, its starter does not, and each usual mistake gets its own advice."""

import json
import multiprocessing
import re
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

import bertlab as bl
from bertlab.exercises import Progress, exercises, find_exercise, record
from bertlab.exercises.core import LEVELS, Case, difference, examine, exercise, said

NOTEBOOKS = {path.stem[:2]: path for path in sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.ipynb"))}
HEADING = re.compile(r"^### Exercise (\d\d\.\d) \((easy|medium|hard)\): (.+)$", re.MULTILINE)
TASKS = exercises()
every_exercise = pytest.mark.parametrize("number", TASKS)


def starters() -> dict[str, tuple[str, str, str]]:
    """number -> (level, title, source of the starter cell), as the notebooks have them."""
    found = {}
    for path in NOTEBOOKS.values():
        cells = nbformat.read(path, as_version=4).cells
        for cell, following in zip(cells, cells[1:]):
            for number, level, title in HEADING.findall(cell.source) if cell.cell_type == "markdown" else ():
                assert following.cell_type == "code" and f'bl.check("{number}", ' in following.source, f"{path.name}: no starter after {number}"
                found[number] = level, title, following.source
    return found


STARTERS = starters()


def run_starter(number: str) -> None:
    exec(STARTERS[number][2], {"bl": bl, "torch": torch})


# ---------------------------------------------------------------- the exercises of the course


def test_there_are_forty_and_three_a_notebook_at_least():
    a_notebook = Counter(number[:2] for number in TASKS)
    assert len(TASKS) >= 40 and min(a_notebook.values()) >= 3
    assert sorted(a_notebook) == [f"{n:02}" for n in range(1, 11)]


def test_the_notebooks_and_the_modules_have_the_same_exercises():
    assert {n: (task.level, task.title) for n, task in TASKS.items()} == {n: (level, title) for n, (level, title, _) in STARTERS.items()}


@every_exercise
def test_the_solution_passes(number):
    task = TASKS[number]
    assert task.level in LEVELS and len(task.hints) >= 3 and len(task.why) >= 40
    feedback = examine(task, task.solution)
    assert feedback.verdict == "passed", feedback.text
    assert not [case.name for case in task.cases() if isinstance(case.run(task.solution), Exception)]
    assert task.source.startswith("def ") and "#" in task.source  # what bl.solution shows is commented


@every_exercise
def test_the_starter_is_not_attempted(number, capsys):
    run_starter(number)
    assert capsys.readouterr().out.startswith(f"{number} not attempted")
    assert not record.file().exists()


@every_exercise
def test_the_starter_has_the_solutions_name_and_arguments(number):
    source, task = STARTERS[number][2], TASKS[number]
    signature = re.search(r"^def (\w+)\((.*?)\):", source, re.MULTILINE)
    assert signature[1] == task.solution.__name__ and f'bl.check("{number}", {signature[1]})' in source
    assert re.findall(r"\w+", task.source.split("(", 1)[1].split(")", 1)[0]) == re.findall(r"\w+", signature[2])


@every_exercise
def test_each_usual_mistake_gets_its_own_advice(number):
    task = TASKS[number]
    assert task.mistakes
    assert len({m.nudge for m in task.mistakes}) == len(task.mistakes)
    for mistake in task.mistakes:
        feedback = examine(task, mistake.function)
        assert feedback.verdict == "not yet", mistake.name
        assert mistake.nudge in feedback.text, f"{mistake.name}: {feedback.text}"


@every_exercise
def test_whatever_one_hands_in_there_are_words_and_no_traceback(number):
    task = TASKS[number]
    arguments = ", ".join(re.findall(r"\w+", str(STARTERS[number][2].split("(", 1)[1].split(")", 1)[0])))
    for body in ("None", "1 / 0", "'text'", "-1", "[]", "{}", "float('nan')", "object()"):
        function = eval(f"lambda {arguments}: {body}")
        feedback = examine(task, function)
        assert feedback.verdict == "not yet" and "Traceback" not in feedback.text, body
    for answer in (None, 3, "text", task.solution.__name__, [1]):
        assert "the function itself" in examine(task, answer).text


# ---------------------------------------------------------------- the checking itself


@pytest.fixture
def doubling():
    @exercise("99.1", "Double", "easy", cases=lambda: [Case("one number", torch.tensor([1.0])), Case("two", torch.tensor([1.0, 2.0]))], hints=["a", "b"], why="Because.")
    def double(x):
        return 2 * x  # twice

    @double.mistake("That is the square.")
    def squared(x):
        return x * x

    @double.mistake("That is one of the mistakes that look right in the first case.")
    def plus_one(x):
        return x + 1

    return double


def test_a_pass_says_why(doubling):
    assert examine(doubling, lambda x: x + x).text == "99.1 passed: all 2 cases. Because."
    assert examine(doubling, lambda x: (x + x).numpy()).verdict == examine(doubling, lambda x: (x + x).tolist()).verdict == "passed"


def test_the_advice_is_of_the_mistake_that_explains_everything(doubling):
    assert "That is the square." in examine(doubling, lambda x: x**2).text
    assert "Nudge" not in examine(doubling, lambda x: x * x if len(x) == 2 else x + 8).text  # the square explains one case only
    feedback = examine(doubling, lambda x: 1 + x)
    assert "look right in the first case" in feedback.text and "case 2, two: expected a tensor of shape (2,) with [2, 4]" in feedback.text
    assert "Nudge" not in examine(doubling, lambda x: 7 * x).text
    assert "Look at it yourself: double(*bl.case('99.1', 1))" in examine(doubling, lambda x: 7 * x).text


def test_a_learner_can_look_at_a_case():
    task = TASKS["02.1"]
    for place, hidden_case in enumerate(task.cases(), 1):
        hidden, mask = bl.case("02.1", place)
        assert torch.equal(hidden, hidden_case.arguments[0]) and torch.equal(mask, hidden_case.arguments[1])
    for place in (0, place + 1, "1", -1):
        with pytest.raises(ValueError, match="has the cases 1 to"):
            bl.case("02.1", place)


def test_an_error_is_told_with_the_learners_own_line(doubling):
    def wrong(x):
        return x @ torch.ones(3, 3, 3)[x]  # my line

    text = examine(doubling, wrong).text
    assert 'in your line "return x @ torch.ones(3, 3, 3)[x]  # my line"' in text and "Traceback" not in text


def test_another_error_is_not_the_mistakes_error(doubling):
    @doubling.mistake("Do not count in words.")
    def in_words(x):
        return int("one")

    assert "Nudge: Do not count in words." in examine(doubling, in_words).text
    assert "Nudge" not in examine(doubling, lambda x: int("two")).text.split("Look at it")[1]


def test_the_parts_of_a_result_have_names():
    both = exercise("99.4", "Both ends", "easy", cases=lambda: [Case("ten", 10)], hints=["a"], why="", parts=("low", "high"))(lambda n: (1, n))
    assert "case 1, ten: high: expected 10, got 9." in examine(both, lambda n: (1, 9)).text


def test_what_is_not_attempted(doubling):
    assert examine(doubling, ...).verdict == examine(doubling, lambda x: ...).verdict == "not attempted"
    assert "Does it end with return?" in examine(doubling, lambda x: None).text


def test_another_signature_is_told(doubling):
    assert "must take the arguments (x), as in the starter; it takes (a, b)" in examine(doubling, lambda a, b: a).text
    assert examine(doubling, lambda *anything: 2 * anything[0]).verdict == "passed"


def test_the_arguments_are_copies(doubling):
    def in_place(x):
        x *= 2
        return x

    assert examine(doubling, in_place).verdict == "passed"


def test_chance_is_the_same_for_everybody_and_the_learners_draws_go_on():
    @exercise("99.2", "Draw", "easy", cases=lambda: [Case("a draw", 2)], hints=["a"], why="")
    def draw(n):
        return torch.rand(n)

    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    assert examine(draw, lambda n: torch.rand(n)).verdict == "passed"
    assert torch.equal(torch.rand(2), expected)


def test_a_judge_decides_where_many_answers_are_right():
    def judge(result, least):
        return "" if result > least else f"{result} is not above {least}."

    above = exercise("99.3", "Above", "easy", cases=lambda: [Case("three", 3)], hints=["a"], why="", judge=judge)(lambda least: 4)
    assert examine(above, lambda least: 9).verdict == "passed"
    assert "case 1, three: 2 is not above 3." in examine(above, lambda least: 2).text
    assert "cannot be read (TypeError" in examine(above, lambda least: "text").text


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (torch.tensor(1.0), 1, ""),
        (1, torch.tensor(1.0), ""),
        ([1, 2], torch.tensor([1, 2]), ""),
        (np.array([2, 1])[::-1], np.array([1, 2, 3])[:2], ""),
        ([np.array([2, 1])[::-1]], torch.tensor([[1, 2]]), ""),
        ([torch.tensor([1, 2]), torch.tensor([3, 4])], torch.tensor([[1, 2], [3, 4]]), ""),
        ([torch.tensor(1.0), torch.tensor(2.0)], torch.tensor([1, 2]), ""),
        ([torch.tensor([1, 2]), torch.tensor([3])], torch.tensor([[1, 2], [3, 4]]), "expected a tensor of shape (2, 2)"),
        (torch.tensor([1, 2]), [1, 2], ""),
        (("a", 1.00001), ["a", 1], ""),
        ({"a": 1.0}, {"a": 1}, ""),
        (True, True, ""),
        (torch.zeros(2, 3), torch.zeros(3, 2), "expected the shape (3, 2), got (2, 3)."),
        (torch.zeros(20), torch.ones(20), "the first number that differs is at [0]: expected 1, got 0."),
        (torch.full((2,), float("nan")), torch.ones(2), "there is NaN"),
        ("a", "b", "expected 'b', got 'a'."),
        ([1], [1, 2], "expected 2 entries"),
        ([1, 3], [1, 2], "entry 1: expected 2, got 3."),
        ({"a": 1}, {"b": 1}, "expected {'b': 1}"),
        ({"a": 1}, {"a": 2}, "at 'a': expected 2, got 1."),
        ("1", 1, "expected 1, got '1'."),
        (None, torch.ones(1), "expected a tensor"),
        (float("nan"), 1.0, "expected 1, got nan."),
        (np.zeros(2), np.ones(2), "expected an array of shape (2,) with [1, 1], got an array"),
        (10.0**30, 1.0, "got 1e+30."),
    ],
)
def test_difference(got, expected, words):
    assert (words in difference(got, expected)) if words else difference(got, expected) == ""


def test_said_is_short():
    assert len(said(list(range(1000)))) <= 120 and said(torch.zeros(3, 4)) == "a tensor of shape (3, 4)"


# ---------------------------------------------------------------- what the learner calls


def test_check_notes_a_pass_once(capsys):
    task = TASKS["02.1"]
    for _ in range(2):
        bl.check("02.1", task.solution)
    assert capsys.readouterr().out.count("02.1 passed") == 2
    assert [json.loads(line) for line in record.file().read_text().splitlines()] == [{"exercise": "02.1", "event": "passed"}]
    assert bl.progress().done == ("02.1",)


def test_a_failure_points_to_the_hints(capsys):
    bl.check("02.1", lambda *_: 0)
    assert 'Stuck? bl.hint(\'02.1\')' in capsys.readouterr().out and bl.progress().done == ()


def test_hints_come_one_by_one(capsys):
    hints = TASKS["02.1"].hints
    for shown in range(1, len(hints) + 2):
        bl.hint("02.1")
        out = capsys.readouterr().out
        assert [h for h in hints if h in out] == list(hints[:shown])
        assert ("bl.solution('02.1')" in out) == (shown >= len(hints))


def test_the_solution_is_code_and_reason(capsys):
    bl.solution("02.1")
    out = capsys.readouterr().out
    assert out.startswith("def ") and TASKS["02.1"].why in out and "@" not in out.splitlines()[0]
    assert bl.progress().shown == ("02.1",)


@pytest.mark.parametrize("number", ["2.1", " 02.1 ", 2.1])
def test_a_number_may_be_written_in_another_way(number, capsys):
    assert find_exercise(number) is TASKS["02.1"]
    bl.check(number, TASKS["02.1"].solution)
    bl.hint(number)
    bl.solution(number)
    assert set(record.counts()) == {("02.1", event) for event in record.EVENTS}


@pytest.mark.parametrize("number", ["02.99", "2.99", "nonsense", None])
def test_a_number_that_does_not_exist(number):
    for call in (bl.hint, bl.solution, lambda n: bl.check(n, None)):
        with pytest.raises(ValueError, match="There is no exercise"):
            call(number)
    assert not record.file().exists()
    if number in ("02.99", "2.99"):
        with pytest.raises(ValueError, match="there are 02.1, 02.2"):
            find_exercise(number)


# ---------------------------------------------------------------- progress


def test_progress_reaches_the_end():
    for number, task in TASKS.items():
        bl.check(number, task.solution)
    now = bl.progress()
    assert now.share == 1 and str(now).startswith(f"{len(TASKS)} of {len(TASKS)} exercises passed (100%).")
    assert "open" not in str(now)


def test_progress_in_words():
    some = Progress(("01.1",), ())
    (first, *_) = some.rows
    assert first[:2] == ("01", 1) and "01.1" not in first[3] and "01.2" in first[3]
    assert "01.2" in some._repr_html_() and repr(some) == str(some)


def test_broken_lines_lose_only_themselves():
    record.file().write_bytes(b'{"exercise": "01.1", "event": "passed"}\n\xff\xfe{]\n[1]\n3\n{"exercise": "01.2"')
    record.add("01.3", "passed")
    assert [n for n, e in record.counts() if e == "passed"] == ["01.1", "01.3"]


def test_without_a_place_to_write_it_lasts_for_the_kernel(tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("BERTLAB_PROGRESS", str(blocked / "progress.jsonl"))
    monkeypatch.setattr(record, "_unsaved", [])
    with pytest.warns(UserWarning, match="cannot be saved.*BERTLAB_PROGRESS"):
        record.add("01.1", "passed")
    assert bl.progress().done == ("01.1",)


def test_the_file_is_in_the_learners_home_unless_told(monkeypatch):
    monkeypatch.delenv("BERTLAB_PROGRESS")
    assert record.file() == Path.home() / ".bertlab" / "progress.jsonl"


def _add_many(number: str) -> None:
    for _ in range(200):
        record.add(number, "hint")


def test_two_kernels_at_once_lose_nothing():
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_many, args=(number,)) for number in ("01.1", "01.2")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert record.counts() == {("01.1", "hint"): 200, ("01.2", "hint"): 200}
