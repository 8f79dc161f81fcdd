"""A package with an entry point in the group bertlab.poolers adds a pooling mode by being installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CODE = """
import bertlab as bl, torch
from bertlab.widgets.pooling_bench import compare_pooling
hidden = torch.tensor([[[2.0], [7.0], [4.0], [9.0]]])
print("first_and_last" in bl.pooling_modes(), bl.pool(hidden, torch.tensor([[1, 1, 1, 0]]), "first_and_last").tolist())
print("first_and_last" in compare_pooling("Rain fell.", "It rained.").with_mask)
"""


def test_an_installed_plugin_appears(tmp_path):
    source = shutil.copytree(Path(__file__).parent / "plugin", tmp_path / "source")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "site"), str(source)]
    subprocess.run(install, check=True, capture_output=True)
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert result.stdout.split("\n")[:2] == ["True [[3.0]]", "True"], result.stderr
