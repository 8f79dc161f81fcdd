"""A notebook reads complete with no kernel: every figure and every panel's first result is on the static page."""

import json
import re
from html import unescape
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter

from bertlab import widgets

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_figures_and_panels_are_on_the_static_page(notebook):
    page, _ = HTMLExporter(template_name="classic").from_filename(str(notebook))  # the template that writes alt text
    cells = [c for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    data = [o["data"] for c in cells for o in c["outputs"] if "data" in o]
    figures = [d for d in data if "image/png" in d]
    panels = [d for d in data if "bertlab-panel" in "".join(d.get("text/html", ""))]
    assert page.count("data:image/png;base64,") >= len(figures)
    for figure in figures:
        alt = "".join(figure["text/plain"]).removeprefix("<Figure: ").removesuffix(">")
        assert alt in unescape(page)  # as the picture's alternative text
    created = [c for c in cells if re.search(rf"\b({'|'.join(widgets.__all__)})\(", "".join(c["source"]))]
    assert len(panels) == len(created)
    for panel in panels:
        assert str(BeautifulSoup("".join(panel["text/html"]), "html.parser")) in page  # the first result, word for word
    assert "application/vnd.jupyter.widget-view+json" not in page


def test_the_notebooks_have_figures_and_panels():
    text = "".join(p.read_text(encoding="utf-8") for p in NOTEBOOKS)
    assert text.count('"image/png"') >= 8 and text.count("bertlab-panel") >= 4
