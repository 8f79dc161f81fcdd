"""The data travels with the code: inside an installed wheel, and beside the package in a checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bertlab import checkpoints

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built without a network from what git would commit."""
    if not (CHECKOUT / ".git").exists():
        pytest.skip("needs a git checkout to know which files belong to it")
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=CHECKOUT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (CHECKOUT / name).is_file():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CHECKOUT / name, folder / "tree" / name)
    pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder, folder / "tree")
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel installed in a folder of its own; its dependencies are this environment's."""
    target = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-index", "--target", target, wheel)
    return target


def test_the_wheel_holds_package_data_and_notebooks(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.startswith("bertlab_course-")
    for name in ("__init__.py", "cli.py", "data/models/bertlab-mini/model.safetensors", "notebooks/00_start_here.ipynb"):
        assert f"bertlab/{name}" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"bertlab"}
    assert not [name for name in names if ".ipynb_checkpoints" in name or "__pycache__" in name]


def test_an_installed_wheel_uses_its_own_data(installed, tmp_path):
    program = """
import json, bertlab as bl
from bertlab import checkpoints, cli
print(json.dumps({
    "file": bl.__file__,
    "data": str(checkpoints.data_folder()),
    "BERT": bl.BERT,
    "prediction": bl.predict_masked("Paris is the capital of [MASK].", top_k=3)[0][0].token,
    "notebooks": str(cli.notebooks_folder()),
    "pins": cli.pinned_versions()[1],
}))
"""
    found = json.loads(python(installed, tmp_path, "-c", program).stdout.splitlines()[-1])
    package = installed / "bertlab"
    assert found["file"] == str(package / "__init__.py")
    assert found["data"] == str(package / "data")
    assert found["BERT"] == str(package / "data" / "models" / "bertlab-mini")
    assert found["prediction"].isalpha()
    assert found["notebooks"] == str(tmp_path / "bertlab-notebooks")
    assert (tmp_path / "bertlab-notebooks" / "00_start_here.ipynb").is_file()
    assert found["pins"] == "bertlab-course"


def test_the_doctor_of_an_installed_wheel(installed, tmp_path):
    report = json.loads(python(installed, tmp_path, "-m", "bertlab.cli", "doctor", "--json").stdout)
    assert report["ok"], [check for check in report["checks"] if check["status"] == "FAIL"]


def test_the_checkout_uses_the_checkouts_data():
    assert checkpoints.data_folder() == CHECKOUT / "data"
    assert checkpoints.bundled_folder("BERT") == CHECKOUT / "data" / "models" / "bertlab-mini"


def pip(*arguments) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def python(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run this interpreter in `cwd` with the installed wheel before everything else; -P keeps `cwd` itself out."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BERTLAB_")}
    environment["PYTHONPATH"] = str(installed)
    done = subprocess.run([sys.executable, "-P", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
