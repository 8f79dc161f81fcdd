"""The stored outputs are a check only if a broken course would change them: break it and see.

With random weights in bl.BERT's place strict nbval must fail in every notebook that uses it, and with panels
that no longer listen to their controls in every notebook that has one.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bertlab as bl
from bertlab import widgets

ROOT = Path(__file__).parent.parent
COURSE = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def code_cells(notebook: Path) -> list[dict]:
    """The code cells that a run without a network executes."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [c for c in cells if c["cell_type"] == "code" and "hub" not in c["metadata"].get("tags", [])]


def which_say(pattern: str) -> list[Path]:
    return [n for n in COURSE if any(re.search(pattern, "".join(c["source"])) for c in code_cells(n))]


PANEL = rf"\b({'|'.join(name for name in widgets.__all__ if name != 'Quiz')})\("  # a quiz answers the reader, no cell
USE_BERT = [n for n in which_say(r"\bbl\.BERT\b|resolve\(.BERT.\)") if n.stem[:2] != "00"]
HAVE_PANELS = which_say(PANEL)
assert {n.stem[:2] for n in USE_BERT} >= {"01", "02", "03", "04", "06", "07", "08", "09", "10"}
assert {n.stem[:2] for n in HAVE_PANELS} >= {"01", "02", "03", "04", "05", "08", "10"}


def unless_slow(notebooks: list[Path]) -> list:
    """The notebooks that train are tried with `-m soak` only."""
    return [pytest.param(n, marks=pytest.mark.soak) if "05" <= n.stem[:2] <= "09" else n for n in notebooks]


def nbval(notebook: Path, folder: Path, *options: str, **environment: str) -> str:
    """pytest --nbval on one notebook, from `folder`; its report."""
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", "-p", "no:cacheprovider", "-c", os.devnull, *options, str(notebook)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**os.environ, **environment}).stdout


def counts(report: str) -> dict[str, int]:
    return {name: int(number) for number, name in re.findall(r"(\d+) (passed|failed|error)", report.splitlines()[-1])}


@pytest.fixture(scope="module")
def random_bert(tmp_path_factory):
    """bl.BERT's configuration and tokenizer with random weights."""
    import torch
    from transformers import BertConfig, BertForPreTraining

    folder = Path(shutil.copytree(bl.BERT, tmp_path_factory.mktemp("random") / "bert"))
    torch.manual_seed(1)
    BertForPreTraining(BertConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("notebook", unless_slow(USE_BERT), ids=lambda p: p.stem)
def test_random_weights_fail_every_notebook(notebook, random_bert):
    """Three failing cells are enough, and the run stops there."""
    report = nbval(notebook, ROOT, "--maxfail=3", BERTLAB_BERT=str(random_bert))
    found = counts(report)
    assert found.get("failed", 0) >= 3, report[-3000:]
    assert "mismatch" in report and found.get("passed", 0) >= 1  # outputs differ: it is no crash at the start


@pytest.fixture(scope="module")
def deaf_checkout(tmp_path_factory):
    """A copy of the package whose panels do not observe their controls."""
    root = tmp_path_factory.mktemp("deaf")
    shutil.copytree(ROOT / "bertlab", root / "bertlab", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "data").symlink_to(ROOT / "data")
    panel = root / "bertlab" / "widgets" / "panel.py"
    source = panel.read_text(encoding="utf-8")
    assert "control.observe(" in source
    panel.write_text(re.sub(r"control\.observe\(.*\)", "pass", source), encoding="utf-8")
    return root


def imports_of(cells: list[dict]) -> list[str]:
    """The import statements of some code cells."""
    plain = "\n".join(line for c in cells for line in "".join(c["source"]).splitlines() if not line.startswith("%"))
    return [ast.unparse(node) for node in ast.parse(plain).body if isinstance(node, (ast.Import, ast.ImportFrom))]


@pytest.mark.parametrize("notebook", unless_slow(HAVE_PANELS), ids=lambda p: p.stem)
def test_a_panel_that_does_not_listen_fails_the_cell_after_it(notebook, deaf_checkout):
    """Only the imports, and each panel with the cell after it, are run, as a notebook of their own."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    code = code_cells(notebook)
    panels = [i for i, c in enumerate(code) if re.search(PANEL, "".join(c["source"]))]
    set_up = {**code[0], "metadata": {}, "outputs": [], "source": "\n".join(["%load_ext bertlab", *imports_of(code[: panels[-1]])])}
    content["cells"] = [set_up, *(code[i + k] for i in panels for k in (0, 1))]
    (deaf_checkout / "notebooks").mkdir(exist_ok=True)
    short = deaf_checkout / "notebooks" / notebook.name
    short.write_text(json.dumps(content), encoding="utf-8")

    hearing = nbval(short, ROOT, PYTHONPATH=str(ROOT))
    assert "failed" not in counts(hearing) and counts(hearing)["passed"] == len(content["cells"]), hearing[-3000:]
    deaf = nbval(short, deaf_checkout, PYTHONPATH=str(deaf_checkout))
    assert counts(deaf).get("failed") == len(panels) and counts(deaf)["passed"] == 1 + len(panels), deaf[-3000:]
