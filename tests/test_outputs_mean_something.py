"""The stored outputs are a check only if a broken course would change them: break it and see.

With random weights in bl.BERT's place, and with panels that no longer listen to their controls, strict
nbval must fail in each of notebooks 01 to 04.
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
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0[1-4]_*.ipynb"))
assert len(NOTEBOOKS) == 4


def nbval(notebook: Path, folder: Path, **environment: str) -> str:
    """pytest --nbval on one notebook, from `folder`; its report."""
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", "-p", "no:cacheprovider", "-c", os.devnull, str(notebook)]
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


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_random_weights_fail_every_notebook(notebook, random_bert):
    report = nbval(notebook, ROOT, BERTLAB_BERT=str(random_bert))
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


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_panel_that_does_not_listen_fails_the_cell_after_it(notebook, deaf_checkout):
    """Only the imports, the panel and the cell after it are run, as a notebook of their own."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    code = [c for c in content["cells"] if c["cell_type"] == "code" and "hub" not in c["metadata"].get("tags", [])]
    panel = next(i for i, c in enumerate(code) if re.search(rf"\b({'|'.join(widgets.__all__)})\(", "".join(c["source"])))
    set_up = {**code[0], "metadata": {}, "outputs": [], "source": "\n".join(["%load_ext bertlab", *imports_of(code[:panel])])}
    content["cells"] = [set_up, code[panel], code[panel + 1]]
    (deaf_checkout / "notebooks").mkdir(exist_ok=True)
    short = deaf_checkout / "notebooks" / notebook.name
    short.write_text(json.dumps(content), encoding="utf-8")

    hearing = nbval(short, ROOT, PYTHONPATH=str(ROOT))
    assert "failed" not in counts(hearing) and counts(hearing)["passed"] == 3, hearing[-3000:]
    deaf = counts(nbval(short, deaf_checkout, PYTHONPATH=str(deaf_checkout)))
    assert deaf.get("failed") == 1 and deaf["passed"] == counts(hearing)["passed"] - 1
