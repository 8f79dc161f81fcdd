"""A notebook reads complete with no kernel: every figure and every panel's first result is on the static page."""

import json
import re
from html import unescape
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter

from bertlab import widgets

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.ipynb"))


every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)


@every_notebook
@pytest.mark.parametrize("template", ("classic", "lab"))
def test_figures_and_panels_are_on_the_static_page(notebook, template):
    page, _ = HTMLExporter(template_name=template).from_filename(str(notebook))
    cells = [c for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    data = [o["data"] for c in cells for o in c["outputs"] if "data" in o]
    figures = [d for d in data if "image/png" in d]
    panels = [d for d in data if "bertlab-panel" in "".join(d.get("text/html", ""))]
    assert page.count("data:image/png;base64,") >= len(figures)
    if template == "classic":  # the template that writes alt text
        for figure in figures:
            alt = "".join(figure["text/plain"]).removeprefix("<Figure: ").removesuffix(">")
            assert alt in unescape(page)  # as the picture's alternative text
    created = [c for c in cells if re.search(rf"\b({'|'.join(widgets.__all__)})\(", "".join(c["source"]))]
    assert len(panels) == len(created)
    for panel in panels:
        assert str(BeautifulSoup("".join(panel["text/html"]), "html.parser")) in page  # the first result, word for word


@every_notebook
@pytest.mark.parametrize("template", ("classic", "lab"))
def test_the_static_page_loads_nothing_for_widgets(notebook, template):
    """The templates bring scripts of their own (MathJax, require.js); a notebook must add none."""
    exporter = HTMLExporter(template_name=template)
    page, empty = exporter.from_filename(str(notebook))[0], exporter.from_notebook_node(nbformat.v4.new_notebook())[0]
    assert scripts(page) == scripts(empty)
    for loader in ("html-manager", "application/vnd.jupyter.widget", "jupyter-widgets", "anywidget"):
        assert loader not in page


def scripts(page: str) -> list[str]:
    return [str(tag) for tag in BeautifulSoup(page, "html.parser").find_all(["script", "link", "iframe"])]


def test_the_notebooks_have_figures_and_panels():
    text = "".join(p.read_text(encoding="utf-8") for p in NOTEBOOKS)
    assert text.count('"image/png"') >= 8 and text.count("bertlab-panel") >= 4
