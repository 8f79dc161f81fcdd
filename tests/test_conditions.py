"""The course in folders whose names make trouble; tests/runs/notebook_conditions.py tries many more conditions."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from test_outputs_mean_something import ROOT, counts, nbval


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")
def test_a_path_with_spaces_and_chinese_characters(tmp_path):
    course = tmp_path / "my course 语言模型"
    shutil.copytree(ROOT / "bertlab", course / "bertlab", ignore=shutil.ignore_patterns("__pycache__"))
    (course / "notebooks").mkdir()
    notebook = Path(shutil.copy(ROOT / "notebooks" / "00_start_here.ipynb", course / "notebooks"))
    os.symlink(ROOT / "data", course / "data")
    report = nbval(notebook, course, PYTHONPATH=str(course), OMP_NUM_THREADS="1")
    assert counts(report).keys() == {"passed"} and counts(report)["passed"] > 5, report[-3000:]
