"""What only a browser shows: the notebooks in a real JupyterLab, and every panel under a person's hands.

Skipped where there is no Chromium, unless CI or BERTLAB_BROWSER=required is set; then that is a failure.
BERTLAB_SCREENSHOTS=folder keeps a picture of each panel in each theme. `pytest -m soak tests/test_browser.py` opens every notebook.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import CHECKOUT, NAMES, THEMES, LabPage, PanelView, chromium, expect, find_chromium, lab_server, without_hub, write_notebook
from bs4 import BeautifulSoup

from bertlab import widgets

NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("[0-9]*.ipynb"))
EVERYDAY = ("00_start_here", "03_masked_language_model")  # the others only with -m soak


@dataclass(frozen=True)
class Case:
    """A panel to try: the code that makes it, a control and the keys that change the result, and where one types a sentence."""

    code: str
    control: str
    keys: tuple[str, ...]
    sentence: str | None = None


CASES = {
    "TokenInspector": Case('bl.widgets.TokenInspector("A robin sings.", "It is loud.")', "Text", ("Home", "a", "b", "Enter"), "Text"),
    "MaskedWord": Case('bl.widgets.MaskedWord("The cat sat on the mat.")', "Hide word no.", ("ArrowUp",), "Sentence"),
    "NextSentence": Case('bl.widgets.NextSentence("It rained.", "We got wet.")', "Segment ids on", ("Space",), "Sentence A"),
    "PoolingBench": Case('bl.widgets.PoolingBench("It rained.", "We got wet.")', "Extra padding", ("ArrowUp",), "Sentence A"),
    "SimilarityMap": Case('bl.widgets.SimilarityMap(["It rained.", "Rain fell.", "Cats purr."])', "Pooling", ("ArrowDown",), "Sentences"),
    "TrainingMonitor": Case(
        'monitor = bl.widgets.TrainingMonitor("fine-tuning loss")\n'
        'for step in range(20):\n    monitor.record({"step": step, "loss": 2 / (step + 1) + step % 2, "share": step / 20})\n'
        "monitor",
        "Average over",
        ("ArrowUp",),
    ),
    "TaskGuide": Case("bl.widgets.TaskGuide()", "Task", ("ArrowDown",)),
    "Quiz": Case("bl.widgets.Quiz()", "Answer", ("ArrowDown",)),
}
WITH_SENTENCE = [name for name, case in CASES.items() if case.sentence]
HOSTILE = {
    "img": "<img src=x onerror=window.hacked=1>",
    "script": "</script><script>window.hacked=1</script>",
    "quotes": """Quotes " ' ` &quot; "><b onmouseover="window.hacked=1">bold</b>""",
    "long": "long " * 1000,
    "right to left": "שלום \u202e עולם مرحبا",
    "joiners": "zero\u200d\u200bwidth 👩\u200d💻",
    "NUL": "before\x00after",
}


@pytest.fixture(scope="module")
def browser():
    if find_chromium() is None:
        message = f"no browser: install Debian's chromium, or put one of {', '.join(NAMES)} on the path"
        (pytest.fail if os.environ.get("CI") or os.environ.get("BERTLAB_BROWSER") == "required" else pytest.skip)(message)
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory) -> Path:
    """A copy of the notebooks, and one more with a cell for each panel."""
    folder = tmp_path_factory.mktemp("notebooks")
    for notebook in NOTEBOOKS:
        without_hub(notebook, folder / notebook.name)
    write_notebook(folder / "panels.ipynb", ["import bertlab as bl\n%load_ext bertlab", *(case.code for case in CASES.values())])
    return folder


@pytest.fixture(scope="module")
def server(notebooks, browser, tmp_path_factory):
    with lab_server(notebooks, tmp_path_factory.mktemp("home")) as address:
        yield address


@pytest.fixture(scope="module")
def panels_page(browser, server):
    page = LabPage(browser, server, "panels.ipynb")
    page.run_all()
    yield page
    page.close()


@pytest.fixture
def panel(panels_page):
    """panel(name) -> a fresh PanelView; afterwards the page must have had no trouble."""
    panels_page.troubles.clear()
    yield lambda name: PanelView(panels_page.run_cell(1 + list(CASES).index(name)))
    assert panels_page.troubles == []


def test_every_panel_is_tried():
    assert set(CASES) == set(widgets.__all__)


# ---------------------------------------------------------------- the notebooks


@pytest.mark.parametrize("stem", [pytest.param(p.stem, marks=[] if p.stem in EVERYDAY else pytest.mark.soak) for p in NOTEBOOKS])
def test_a_notebook_reads_without_a_kernel_and_runs(browser, server, stem):
    lab = LabPage(browser, server, f"{stem}.ipynb")
    shown = lab.page.locator(".jp-Cell")
    stored = {i: html for i, cell in enumerate(lab.cells()) for html in panels_in(cell)}
    for number, html in stored.items():  # nobody has trusted this copy, and nothing runs yet
        assert squeezed(BeautifulSoup(html, "html.parser").get_text()) in squeezed(shown.nth(number).inner_text()), f"cell {number}"
    lab.run_all()
    for number, cell in enumerate(lab.cells()):
        if cell["cell_type"] == "code":
            assert cell["execution_count"], f"cell {number} did not run"
            assert not [o for o in cell["outputs"] if o["output_type"] == "error"], f"cell {number}"
    for number in stored:
        expect(shown.nth(number).locator(".jupyter-widgets .bertlab-panel")).to_be_visible()
    expect(lab.page.get_by_text(re.compile("Error displaying widget|Loading widget"))).to_have_count(0)
    troubles = lab.troubles
    lab.close()
    assert troubles == []


def panels_in(cell: dict) -> list[str]:
    """The stored HTML of a cell's panel."""
    html = ["".join(output.get("data", {}).get("text/html", "")) for output in cell.get("outputs", [])]
    return [BeautifulSoup(text, "html.parser").find("style").parent.decode() for text in html if "bertlab-panel" in text]


def squeezed(text: str) -> str:
    return re.sub(r"\s|\u200b", "", text)


# ---------------------------------------------------------------- a person's actions


def test_token_inspector(panel):
    view = panel("TokenInspector")
    view.shows("10 tokens, 0 unknown", "robin")
    view.write("Text", "Unglamorous")
    view.shows("##lam", "word 1")
    view.write("Second text", "")
    expect(view.result).not_to_contain_text("loud")


def test_masked_word(panel):
    view = panel("MaskedWord")
    view.shows("The [MASK] sat on the mat.", "Guesses for [MASK] 1")
    view.write("Hide word no.", "6")
    view.shows("The cat sat on the [MASK].")
    view.write("Sentence", "She drank a cup of [MASK] with her [MASK].")
    view.shows("Guesses for [MASK] 2")
    view.write("Sentence", " ")
    expect(view.output.get_by_role("alert")).to_be_visible()


def test_next_sentence(panel):
    view = panel("NextSentence")
    view.shows("[CLS] It rained. [SEP] We got wet. [SEP]", "The model's choice")
    view.tick("Swap A and B")
    view.shows("[CLS] We got wet. [SEP] It rained. [SEP]")
    view.write("Sentence B", "Two plus two is four.")
    view.shows("[CLS] Two plus two is four. [SEP] It rained. [SEP]")


def test_pooling_bench(panel):
    view = panel("PoolingBench")
    view.shows("Cosine similarity, 0 padding tokens", "max")
    view.write("Extra padding", "9")
    view.shows("Cosine similarity, 9 padding tokens")
    with view.changes():
        view.choose("Layer", "0")


def test_similarity_map(panel):
    view = panel("SimilarityMap")
    view.shows("Cosines by bl.BERT, mean pooling", "Cats purr.")
    view.choose("Model", "bl.SBERT")
    view.shows("Cosines by bl.SBERT", "Most similar: 1 and 2")
    view.write("Sentences", "Dogs bark.\nIt snowed.\nA dog barks.")
    view.shows("Most similar: 1 and 3")


def test_training_monitor(panel):
    view = panel("TrainingMonitor")
    view.shows("fine-tuning loss: from 2.00", "95% done")
    view.choose("Curve", "NSP loss")
    view.shows("No value for NSP loss yet")


def test_task_guide(panel):
    view = panel("TaskGuide")
    view.choose("Task", "tag words")
    view.shows("every token's own vector, no pooling")
    expect(view.result.get_by_role("link", name="07_token_tasks")).to_be_visible()


def test_quiz(panel):
    view = panel("Quiz")
    view.shows("Choose an answer.")
    view.choose("Answer", "A")
    view.shows("Read again")
    view.write("Question", "2")
    view.shows("2. ", "Choose an answer.")


# ---------------------------------------------------------------- what holds for every panel


@pytest.mark.parametrize("name", CASES)
def test_works_from_the_keyboard(panel, name):
    view, case = panel(name), CASES[name]
    view.tab_to(case.control)
    with view.changes():
        for key in case.keys:
            view.page.keyboard.press(key)


@pytest.mark.parametrize("name", CASES)
def test_every_control_has_a_name(panel, name):
    assert panel(name).unnamed() == []


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("theme", THEMES)
def test_is_readable_in_both_themes(panels_page, panel, name, theme):
    view = panel(name)
    panels_page.theme(theme)
    if folder := os.environ.get("BERTLAB_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        view.output.screenshot(path=Path(folder) / f"{name}-{theme}.png")
    assert view.low_contrast() == []


@pytest.mark.parametrize("name", WITH_SENTENCE)
def test_hostile_text_is_only_text(panel, name):
    view, control = panel(name), CASES[name].sentence
    for kind, text in HOSTILE.items():
        more = "\nIt rained." if name == "SimilarityMap" else ""
        with view.changes():
            view.write(control, text + more)
        alert = view.output.get_by_role("alert")
        if not alert.count():
            word = re.search(r"[^\W\d_]+", text)[0].lower()
            assert word in view.says().lower(), f"{kind}: neither the text nor an error"
        assert view.page.evaluate("window.hacked") is None, kind
        expect(view.output.locator("img, script, [onerror], [onmouseover]")).to_have_count(0)
        with view.changes():
            view.write(control, f"A quiet sentence after {kind}." + more)
