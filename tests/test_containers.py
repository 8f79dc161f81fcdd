"""The Dockerfile, Binder's files and `bertlab pack` agree with the README. Nothing is built here."""

import fnmatch
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from bertlab import cli, pack

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
PYTORCH = "https://download.pytorch.org/whl/cpu"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in turn, such as ("USER", "1000")."""
    text = re.sub(r"\\\n", " ", (CHECKOUT / "Dockerfile").read_text(encoding="utf-8"))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def values(name: str) -> list[str]:
    return [value for instruction, value in instructions() if instruction == name]


def copied() -> list[str]:
    """What the Dockerfile copies out of the checkout."""
    return [word for value in values("COPY") for word in shlex.split(value)[:-1] if not word.startswith("--")]


def pythons() -> list[str]:
    """The Python versions the README names."""
    (line,) = re.findall(r"has wheels for Python (.+) on$", README, re.MULTILINE)
    return re.findall(r"\d+\.\d+", line)


def test_both_containers_have_a_python_of_the_readmes():
    (image,) = values("FROM")
    docker = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", image)[1]
    binder = re.fullmatch(r"python-(\d+\.\d+)\n", (CHECKOUT / "binder" / "runtime.txt").read_text())[1]
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert docker == binder and docker in pythons() and SpecifierSet(project["requires-python"]).contains(f"{docker}.0")


def test_the_image_holds_what_the_course_needs():
    assert all((CHECKOUT / name).exists() for name in copied())
    assert {"bertlab", "data", "notebooks", "tests", "requirements.txt", "requirements.lock", "pyproject.toml"} <= set(copied())
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {project["readme"], *project["license-files"]} <= set(copied())  # the package cannot be built without them


def test_dockerignore_leaves_out_nothing_that_git_knows():
    if not (CHECKOUT / ".git").exists():
        pytest.skip("needs a git checkout")
    names = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.splitlines()
    lines = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for pattern in (line for line in lines if line and not line.startswith("#")):
        anywhere = pattern.removeprefix("**/")
        for name in names:
            parts = name.split("/") if pattern.startswith("**/") else [name.split("/")[0]]
            assert not fnmatch.filter(parts, anywhere), f"{pattern} leaves out {name}"


def test_the_image_opens_the_lab_with_a_token_for_one_who_is_not_root():
    assert [value for name, value in instructions() if name == "USER"][-1] not in ("root", "0")
    program, *arguments = json.loads(*values("CMD"))
    options, extra = cli._parser().parse_known_args(arguments)
    assert program == "bertlab" and options.run is cli.lab and options.no_browser
    command = cli.lab_command(Path("notebooks"), options.port, False, extra)
    assert "--ip=0.0.0.0" in command and "--LabApp.default_url=/lab/tree/00_start_here.ipynb" in command
    assert not re.search("token|password", " ".join(command + [value for _, value in instructions()]))
    assert values("EXPOSE") == [str(options.port)]
    runs = re.findall(r"docker run .*", (CHECKOUT / "Dockerfile").read_text(encoding="utf-8"))
    assert runs and all(f"-p 127.0.0.1:{options.port}:{options.port} " in run for run in runs)


def test_both_containers_take_the_small_torch():
    assert f"PIP_EXTRA_INDEX_URL={PYTORCH}" in values("ARG") and f"export PIP_EXTRA_INDEX_URL={PYTORCH}" in README
    lines = (CHECKOUT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [f"--extra-index-url {PYTORCH}", "-r ../requirements.txt", "-c ../requirements.lock"]
    assert "pip install --no-cache-dir -r requirements.txt -c requirements.lock" in " ".join(values("RUN"))


def test_binders_link_opens_the_first_notebook():
    (path,) = re.findall(r"mybinder\.org/\S+\?urlpath=lab/tree/(\S+?)`", README)
    assert path == f"notebooks/{cli.FIRST_NOTEBOOK}" and (CHECKOUT / path).is_file()


def test_pack_knows_the_readmes_systems_and_pythons():
    assert list(pack.PYTHONS) == pythons() and pack.PYTHON_NEEDED == cli.PYTHON_NEEDED
    tags = set(re.findall(r"\| (\w+) \|$", README, re.MULTILINE))
    first = {pack.Target(name, "3.12").wheel_platforms()[0] for name in pack.PLATFORMS}
    assert first == {"manylinux_2_28_x86_64", "manylinux_2_28_aarch64", "macosx_14_0_arm64", "win_amd64"}
    assert tags >= {"manylinux_2_28", "macosx_14_0_arm64", "win_amd64"}
    (named,) = re.findall(r"bertlab pack \S+ --platform (.+) --python (.+)", README)
    assert len(pack.targets(*(words.split() for words in named))) == 6
