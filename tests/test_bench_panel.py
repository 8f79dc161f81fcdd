"""`bertlab bench panel`, memory and suite at their smallest: the rows are there and make sense. Nothing here judges a time."""

import random
from pathlib import Path

import nbformat
import pytest

from bertlab import bench
from bertlab.bench import memory, panel, suite

TINY = bench.Options(quick=True, threads=1)


@pytest.mark.parametrize("name", ["MaskedWord", "NextSentence", "PoolingBench", "AttentionView", "TokenInspector", "SimilarityMap"])
def test_every_panel_and_its_bare_call_answer(name, tiny_bert, monkeypatch):
    monkeypatch.setenv("BERTLAB_BERT", str(tiny_bert))
    monkeypatch.setenv("BERTLAB_SBERT", str(tiny_bert))
    import torch

    before = torch.get_num_threads()
    times = panel.measure(name, rounds=2, threads=before, warm_up=1)
    assert set(times) == {"panel", "bare"} and all(len(values) == 2 and min(values) > 0 for values in times.values())


def test_a_sentence_has_twenty_words_and_pressed_words_stay_pressed():
    from bertlab.widgets.masked_word import carry_over

    one, other = (panel.sentence(random.Random(seed)).split() for seed in (1, 2))
    assert len(one) == len(other) == panel.LENGTH and one != other
    assert carry_over(one, other, [1]) == [1]


def test_a_panel_that_shows_nothing_new_is_an_error(monkeypatch):
    case = panel.cases()["TokenInspector"]
    still = panel.Case(case.make, lambda panel, sentence: None, case.bare, case.said)
    monkeypatch.setattr(panel, "cases", lambda: {"TokenInspector": still})
    with pytest.raises(RuntimeError, match="TokenInspector holds no new result"):
        panel.measure("TokenInspector", 1, 1)


def test_rows_of_a_panel_come_from_a_real_kernel(monkeypatch):
    monkeypatch.setattr(panel, "cases", lambda real=panel.cases: {"TokenInspector": real()["TokenInspector"]})
    found, late = panel.rows(TINY)
    assert found.part == "panel" and found.value > 0 and found.at_most == 1.5 and set(found.sides) == {"panel_ms", "bare_ms"}
    assert late.value > 0 and late.at_most == 150


def test_lessons_are_the_same_on_both_sides():
    assert list(memory.ours(memory.LESSONS)) == list(memory.stock(memory.LESSONS)) == list(memory.LESSONS)
    for lesson in memory.stock(memory.LESSONS).values():
        compile("\n".join(cell.source for cell in lesson.cells), "lesson", "exec")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the memory is read on Linux")
def test_learners_at_once_have_peaks_and_failures_are_told():
    cells = ["import time\nkept = bytearray(b'x' * 100_000_000)\ntime.sleep(1)"]
    lesson = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    (found,) = memory.peaks(2, {"01": lesson}).values()
    assert 95 < found < 400  # MiB
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    with pytest.raises(RuntimeError, match="1 of 1 runs failed: 01: CellExecutionError: .*division by zero"):
        memory.peaks(1, {"01": broken})


def test_a_row_of_memory_compares_the_largest_peaks(monkeypatch):
    monkeypatch.setattr(memory, "peaks", lambda number, lessons: {"01": 900.0, "02": 600.0} if any("bl." in c.source for c in lessons["01"].cells) else {"01": 1000.0, "02": 500.0})
    row = memory.compared(8, ("01", "02"), 2, at_most=0.95)
    assert row.value == 0.9 and row.met and "as one of 8" in row.what and row.sides["stock_02_MiB"] == 500


def test_without_control_groups_the_row_says_so(monkeypatch):
    def none(limit):
        raise PermissionError("no")

    monkeypatch.setattr(memory.Group, "made", none)
    for row in (memory.under(memory.GIB, ["00"]), memory.said_in_words()):
        assert row.value is None and row.met is None and "needs to be root" in row.note


def test_rows_of_the_suite(monkeypatch):
    took = {"00": 10.0, "01": 30.0}
    monkeypatch.setattr(suite, "one_after_another", lambda paths, threads: {path: took[path.name[:2]] for path in paths})
    monkeypatch.setattr(suite, "starts", lambda paths, threads: {path: 4.0 for path in paths})
    monkeypatch.setattr(suite, "two_workers", lambda halves, cores: 32.0)
    everything, start, workers = suite.rows(TINY)
    assert everything.value == 40 and everything.at_most == 480 and everything.sides == {"00_s": 10.0, "01_s": 30.0}
    assert start.value == 0.2 and workers.value == 1.25 and "01; 00" in workers.note


def test_the_suite_runs_a_notebook_and_refuses_one_that_fails(tmp_path):
    cell = nbformat.v4.new_code_cell("1 + 1", execution_count=1, outputs=[nbformat.v4.new_output("execute_result", {"text/plain": "3"}, execution_count=1)])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "00.ipynb")
    with pytest.raises(RuntimeError, match="do not pass"):
        suite.finish([suite.start_nbval([tmp_path / "00.ipynb"], 1)])


def test_every_notebook_has_imports_that_run_alone():
    for name, notebook in memory.ours([f"{n:02}" for n in range(11)]).items():
        code = suite.imports(notebook)
        assert "%load_ext bertlab" in code and "import bertlab as bl" in code, name
        compile(code.replace("%load_ext bertlab", ""), name, "exec")
