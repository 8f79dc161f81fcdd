"""What every notebook keeps to; `pytest` itself executes them and compares their outputs (nbval)."""

import json
import re
from pathlib import Path

import nbformat
import pytest
import store_outputs
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|work|tmp|home|Users|private|opt|var|srv|mnt)/|\b[A-Z]:\\")
MARKDOWN_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\(")
HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
ALT = re.compile(r"""\balt=(["'])\s*[^"'\s]""", re.IGNORECASE)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_course_has_its_notebooks():
    assert [path.stem for path in NOTEBOOKS] == [
        "00_start_here",
        "01_cls_token",
        "02_pooling",
        "03_masked_language_model",
        "04_next_sentence_prediction",
        "05_pretraining",
        "06_classification",
        "07_token_tasks",
        "08_sentence_bert",
        "09_semantic_search",
        "10_which_representation",
    ]


def test_every_notebook_file_is_numbered():
    assert all(re.fullmatch(r"\d\d_[a-z_]+", path.stem) for path in NOTEBOOKS)


@every_notebook
def test_format(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))


@every_notebook
def test_is_what_store_outputs_writes(path):
    text = path.read_text(encoding="utf-8")
    assert nbformat.writes(store_outputs.normalise(nbformat.v4.reads(text), path.stem)) == text.removesuffix("\n")


@every_notebook
def test_only_cells_that_differ_between_learners_are_skipped(path):
    for cell in code_cells(path):
        tags = tags_of(cell)
        assert ("nbval-skip" in tags) == bool(tags & {"versions", "hub", "progress"}), where(path, cell)
        assert not {tag for tag in tags if "ignore" in tag or "raises" in tag or "check-output" in tag}, where(path, cell)
        assert not re.search(r"#.*\b(?:NBVAL_|PYTEST_VALIDATE_)", cell.source), where(path, cell)


@every_notebook
def test_every_other_cell_was_executed_in_order(path):
    cells = list(code_cells(path))
    executed = [cell for cell in cells if "hub" not in tags_of(cell)]
    assert [cell.execution_count for cell in executed] == list(range(1, len(executed) + 1))
    for cell in cells:
        if "hub" in tags_of(cell):
            assert cell.execution_count is None and not cell.outputs, where(path, cell)
        assert ("hub" in tags_of(cell)) == cell.source.startswith("%%hub\n"), where(path, cell)


@every_notebook
def test_no_widget_state(path):
    assert "widgets" not in read(path).metadata
    for cell, output in outputs(path):
        assert store_outputs.WIDGET_VIEW not in output.get("data", {}), where(path, cell)


@every_notebook
def test_no_errors_and_no_stderr(path):
    for cell, output in outputs(path):
        assert output.output_type != "error" and output.get("name") != "stderr", where(path, cell)


@every_notebook
def test_no_path_of_the_machine_it_was_made_on(path):
    for cell in read(path).cells:
        assert not MACHINE_PATH.search(cell.source), where(path, cell)
    for cell, output in outputs(path):
        for kind, text in texts(output):
            found = MACHINE_PATH.search(text)
            assert not found, f"{where(path, cell)}: {kind} holds {text[found.start() : found.start() + 60]!r}"


@every_notebook
def test_code_cells_are_short(path):
    for cell in code_cells(path):
        assert len(cell.source.removeprefix("%%hub\n").splitlines()) <= 20, where(path, cell)


@every_notebook
def test_every_image_has_alt_text(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for image in MARKDOWN_IMAGE.finditer(cell.source):
                assert image["alt"].strip(), where(path, cell)
            for tag in HTML_IMAGE.findall(cell.source):
                assert ALT.search(tag), where(path, cell)
    for cell, output in outputs(path):
        for kind, text in texts(output):
            for tag in HTML_IMAGE.findall(text) if kind == "text/html" else ():
                assert ALT.search(tag), where(path, cell)


@every_notebook
def test_every_figure_has_alt_text(path):
    """A figure comes from bl.plots.show, which asks for alt text."""
    for cell, output in outputs(path):
        data = output.get("data", {})
        if "image/png" in data:
            alt = re.fullmatch(r"<Figure: (\S.*)>", data.get("text/plain", ""), re.DOTALL)
            assert alt, where(path, cell)
            assert output.metadata.get("image/png", {}).get("alt") == alt[1], where(path, cell)
        assert not {"image/jpeg", "image/svg+xml"} & set(data), where(path, cell)


@every_notebook
def test_ends_with_summary_exercises_further_reading(path):
    markdown = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    headings = [heading for heading in re.findall(r"^## (.*\S)", markdown, re.MULTILINE) if heading != "Going further"]
    expected = ["Summary", "Exercises", "Further reading"]
    if path.stem == "00_start_here" and "Exercises" not in headings:
        expected.remove("Exercises")
    assert headings[-len(expected) :] == expected


@every_notebook
def test_a_section_begins_its_own_cell(path):
    """So that a slide begins with its heading."""
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"\n## ", cell.source), where(path, cell)


@every_notebook
def test_begins_with_one_title(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")


# ---------------------------------------------------------------- tests/store_outputs.py itself


def test_store_outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("BERTLAB_BERT", "elsewhere")
    path = tmp_path / "07_tiny.ipynb"
    write(
        path,
        "# A title",
        "import os, ipywidgets\nprint(os.environ.get('OMP_NUM_THREADS'), os.environ.get('BERTLAB_BERT'))",
        ("raise SystemError('no network')", ["hub", "nbval-skip"]),
        "ipywidgets.IntSlider(3)",
        "os.path.basename(os.getcwd())",
    )
    store_outputs.store(path)
    first = path.read_text(encoding="utf-8")
    assert first.endswith("}\n") and tmp_path.as_posix() not in first.replace(tmp_path.name, "")
    markdown, printed, hub, slider, folder = read(path).cells
    assert [c.id for c in read(path).cells] == [f"07_tiny-{number}" for number in range(5)]
    assert printed.outputs[0].text == "None None\n"
    assert hub.execution_count is None and hub.outputs == []
    assert list(slider.outputs[0].data) == ["text/plain"]
    assert folder.execution_count == 3 and folder.outputs[0].data["text/plain"] == repr(tmp_path.name)
    assert "widgets" not in read(path).metadata
    store_outputs.store(path)
    assert path.read_text(encoding="utf-8") == first


@pytest.mark.parametrize(
    ("kind", "source", "section", "expected"),
    [
        ("markdown", "# Title", "", "slide"),
        ("markdown", "## 1. Pooling", "## 1. Pooling", "slide"),
        ("markdown", "More about it.", "## 1. Pooling", "subslide"),
        ("code", "# a comment\npool()", "## 1. Pooling", "subslide"),
        ("markdown", "**What happened:** it fell.", "## 1. Pooling", "fragment"),
        ("markdown", "### Exercise 02.1", "## Exercises", "skip"),
    ],
)
def test_slide_type(kind, source, section, expected):
    new = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
    assert store_outputs.slide_type(new(source), section) == expected


def test_store_outputs_fails_loudly(tmp_path, monkeypatch, capsys):
    path = tmp_path / "07_tiny.ipynb"
    write(path, "# A title", "print('stored?')\n1 / 0")
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        store_outputs.store(path)
    monkeypatch.setattr(store_outputs, "NOTEBOOKS", tmp_path)
    assert store_outputs.main(["07"]) == 1
    assert "07_tiny.ipynb: FAILED, not stored" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert store_outputs.main(["08"]) == 1
    assert "No notebook begins with 08; there are 07_tiny." in capsys.readouterr().err


# ---------------------------------------------------------------- helpers


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return (cell for cell in read(path).cells if cell.cell_type == "code")


def tags_of(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def outputs(path):
    """Every stored output with its cell."""
    return ((cell, output) for cell in code_cells(path) for output in cell.outputs)


def texts(output):
    """(kind, text) of everything in an output that one can read."""
    if output.output_type == "stream":
        yield output.name, output.text
    for kind, value in output.get("data", {}).items():
        if kind != "image/png":
            yield kind, value if isinstance(value, str) else json.dumps(value)


def where(path, cell) -> str:
    return f"{path.name}, cell {cell.id}: {cell.source[:60]!r}"


def write(path, *cells):
    """A notebook as an editor might leave it: an old format, no ids, the first cell markdown."""
    rows = []
    for number, cell in enumerate(cells):
        source, tags = cell if isinstance(cell, tuple) else (cell, [])
        row = {"cell_type": "markdown" if number == 0 else "code", "metadata": {"tags": tags} if tags else {}, "source": source}
        rows.append(row if number == 0 else row | {"execution_count": None, "outputs": []})
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": rows}), encoding="utf-8")
