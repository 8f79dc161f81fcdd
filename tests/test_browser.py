"""What only a browser shows: the notebooks in a real JupyterLab, and every panel under a person's hands.

Skipped where there is no Chromium, unless CI or BERTLAB_BROWSER=required is set; then that is a failure.
BERTLAB_SCREENSHOTS=folder keeps a picture of each panel in each theme. `pytest -m soak tests/test_browser.py` opens every notebook.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import CHECKOUT, NAMES, THEMES, LabPage, PanelView, chromium, expect, find_chromium, lab_server, write_notebook
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


NEXT_OPTION = ("Space", "ArrowDown", "Enter")  # a closed list leaves the arrows to JupyterLab, which moves to another cell
NEXT_WORD = ("ArrowRight", "Space")
CASES = {
    "TokenInspector": Case('bl.widgets.TokenInspector("A robin sings.", "It is loud.")', "Text", ("Home", "a", "b", "Enter"), "Text"),
    "AttentionView": Case('bl.widgets.AttentionView("A robin sings.")', "Token that looks", NEXT_WORD, "Sentence"),
    "PoolingBench": Case('bl.widgets.PoolingBench("It rained.", "We got wet.")', "Extra padding", ("ArrowUp",), "Sentence A"),
    "MaskedWord": Case('bl.widgets.MaskedWord("The cat sat on the mat.")', "Hide", NEXT_WORD, "Sentence"),
    "NextSentence": Case('bl.widgets.NextSentence("It rained.", "We got wet.")', "Segment ids on", ("Space",), "Sentence A"),
    "TrainingMonitor": Case(
        'monitor = bl.widgets.TrainingMonitor("fine-tuning loss")\n'
        'for step in range(1, 21):\n    monitor.record({"step": step, "loss": 2 / step + step % 2, "share": step / 20})\n'
        "monitor",
        "Average over",
        ("ArrowUp",),
    ),
    "SimilarityMap": Case('bl.widgets.SimilarityMap(["It rained.", "Rain fell.", "Cats purr."])', "Pooling", NEXT_OPTION, "Sentences"),
    "TaskGuide": Case("bl.widgets.TaskGuide()", "Task", NEXT_OPTION),
    "Quiz": Case("bl.widgets.Quiz()", "Answer", NEXT_OPTION),
}
TRAINING = """import time
for step in range(1, 601):
    time.sleep(0.1)
    if monitor.record({"step": step, "loss": 1 / step, "share": step / 600}) is False:
        print("stopped early after", step)
        break"""
PRETRAINING = """model, tokenizer = bl.toy_world.train(tokens=20_000_000, text=300, callback=monitor.record)
words = model(**tokenizer("It is [MASK].", return_tensors="pt")).prediction_logits.isfinite().all().item()
print("stopped early after", monitor.records[-1]["step"], "usable:", words)"""
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
        shutil.copyfile(notebook, folder / notebook.name)
    write_notebook(folder / "panels.ipynb", ["import bertlab as bl\n%load_ext bertlab", *(case.code for case in CASES.values()), TRAINING, PRETRAINING])
    return folder


@pytest.fixture(scope="module")
def server(notebooks, browser, tmp_path_factory):
    with lab_server(notebooks, tmp_path_factory.mktemp("home")) as address:
        yield address


@pytest.fixture(scope="module")
def panels_page(browser, server):
    page = LabPage(browser, server, "panels.ipynb")
    page.run_cell(0)
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
    stored = {number: rows for number, cell in enumerate(lab.cells()) if (rows := stored_rows(cell))}
    for number, rows in stored.items():  # nobody has trusted this copy, and nothing has run
        page = squeezed(shown.nth(number).text_content())
        assert not [row for row in rows if squeezed(row) not in page], f"cell {number}"
    lab.run_all()
    for number, cell in enumerate(lab.cells()):
        if cell["cell_type"] == "code":
            assert cell["execution_count"], f"cell {number} did not run"
            assert not [o for o in cell["outputs"] if o["output_type"] == "error"], f"cell {number}"
            assert not "".join(cell["source"]).startswith("%%hub") or "Not run" in cell["outputs"][0]["text"], f"cell {number}"
    for number in stored:
        expect(shown.nth(number).locator(".jupyter-widgets .bertlab-panel[aria-live]")).to_be_visible()
    expect(lab.page.get_by_text(re.compile("Error displaying widget|Loading widget"))).to_have_count(0)
    troubles = lab.troubles
    lab.close()
    assert troubles == []


def stored_rows(cell: dict) -> list[str]:
    """What a stored panel says, row by row."""
    html = ["".join(output.get("data", {}).get("text/html", "")) for output in cell.get("outputs", [])]
    return [e.get_text() for text in html if "bertlab-panel" in text for e in BeautifulSoup(text, "html.parser").find_all(["caption", "tr", "p", "li"])]


def squeezed(text: str) -> str:
    return re.sub(r"\s|\u200b", "", text)


# ---------------------------------------------------------------- a person's actions


def test_token_inspector(panel):
    view = panel("TokenInspector")
    view.shows("11 tokens, 0 unknown, 0 cut", "word 2: robin")
    view.write("Text", "Ungainly")
    view.shows("##gai", "word 1: Ungainly")
    view.write("Tokens that fit", "6")
    view.shows("Cut:")
    view.write("Second text", "")
    expect(view.result).not_to_contain_text("loud")


def test_attention_view(panel):
    view = panel("AttentionView")
    view.shows("What [CLS] looks at: layer 6, average of all heads")
    view.press("robin")
    view.shows("What robin looks at: layer 6")
    view.choose("Layer", "2")
    view.choose("Head", "3")
    view.shows("What robin looks at: layer 2, head 3")
    view.tick("Hide [CLS] and [SEP] as targets")
    view.shows("Nothing is renormalised")


def test_pooling_bench(panel):
    view = panel("PoolingBench")
    view.shows("Cosine of A and B at layer 6, 0 padding tokens each", "max")
    view.write("Extra padding", "9")
    view.shows("9 padding tokens each")
    view.choose("Layer", "0, the embeddings")
    view.shows("at layer 0")
    view.control("Graded pair").select_option(index=1)
    view.shows("of 5")


def test_masked_word(panel):
    view = panel("MaskedWord")
    view.shows("The [MASK] sat on the mat.", "Guesses for word 2, cat")
    view.press("mat")
    view.shows("The [MASK] sat on the [MASK].", "Guesses for word 6, mat")
    view.choose("Hide them", "one at a time")
    view.shows("The cat sat on the [MASK].")
    view.choose("View", "80/10/10")
    view.write("Seed", "3")
    view.shows("Seed 3:")
    view.choose("View", "surprise")
    view.shows("Pseudo-perplexity")
    view.write("Sentence", " ")
    expect(view.output.get_by_role("alert")).to_be_visible()


def test_next_sentence(panel):
    view = panel("NextSentence")
    view.shows("[CLS] It rained. [SEP]", "The model's choice")
    view.press("Swap A and B")
    view.shows("[CLS] We got wet. [SEP]")
    view.press("Another random B")
    view.shows("B was")
    view.control("Gallery").select_option(index=1)
    view.shows("What is true:")
    view.tick("Segment ids on", False)
    view.shows("segment ids are off")


def test_training_monitor(panel):
    view = panel("TrainingMonitor")
    view.shows("fine-tuning loss: from 3.00", "100% done")
    view.choose("Curve", "NSP loss")
    view.shows("No value for NSP loss yet")


@pytest.mark.parametrize("cell, words", [(0, r"stopped early after \d"), (1, r"stopped early after \d+ usable: True")])
def test_training_monitor_stops_a_run(panel, panels_page, cell, words):
    view = panel("TrainingMonitor")
    training = panels_page.start_cell(1 + len(CASES) + cell)
    view.output.get_by_role("button", name="Stop the training").click()  # its icon is a part of the name
    expect(training).to_contain_text(re.compile(words))
    panels_page.wait()


def test_similarity_map(panel):
    view = panel("SimilarityMap")
    view.shows("Cosines by bl.BERT, mean pooling", "Cats purr.", "Nearest to sentence 1")
    view.choose("Model", "bl.SBERT")
    view.shows("Cosines by bl.SBERT", "Most similar: 1 and 2")
    view.control("Neighbours of").select_option(index=2)
    view.shows("Nearest to sentence 3")
    view.write("Sentences", "Dogs bark.\nIt snowed.\nA dog barks.")
    view.shows("Most similar: 1 and 3")


def test_task_guide(panel):
    view = panel("TaskGuide")
    view.choose("Task", "tag words")
    view.shows("every token's own vector, no pooling")
    expect(view.result.get_by_role("link", name="07_token_tasks").first).to_be_visible()


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
    more = "\nIt rained." if name == "SimilarityMap" else ""
    for kind, text in HOSTILE.items():
        with view.changes():
            view.write(control, text + more)
        if name != "PoolingBench" and not view.output.get_by_role("alert").count():  # PoolingBench does not repeat the sentences
            word = re.search(r"[^\W\d_]+", text)[0].lower()
            shown = re.sub(r"##|\(\d+\)", "", squeezed(view.output.inner_text()))  # word pieces joined, without AttentionView's numbers
            assert word in shown.lower(), f"{kind}: neither the text nor an error"
        assert view.page.evaluate("window.hacked") is None, kind
        expect(view.output.locator("img, script, [onerror], [onmouseover]")).to_have_count(0)
        with view.changes():
            view.write(control, f"A quiet sentence after {kind}." + more)
