"""The README's commands, the pins and the lock say the same thing."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
SET_UP = "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt -c requirements.lock"


def requirements(name: str) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in (CHECKOUT / name).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and line != "-e ."]


def test_the_readme_has_the_two_commands():
    lines = README.splitlines()
    assert f"{SET_UP} && bertlab lab" in lines
    assert f"{SET_UP} && pytest" in lines


def test_ci_runs_the_readmes_test_command():
    script = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.splitlines()[-1] == f"{SET_UP} && pytest"
    assert (CHECKOUT / ".ci" / "run").stat().st_mode & 0o100


def test_the_readme_lists_every_notebook():
    listed = re.findall(r"^\| \[(\w+)\]\(notebooks/(\w+)\.ipynb\)", README, re.MULTILINE)
    assert [name for name, _ in listed] == sorted(path.stem for path in (CHECKOUT / "notebooks").glob("*.ipynb"))
    assert all(name == file for name, file in listed)


def test_the_readmes_files_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (CHECKOUT / target).exists(), target


def test_nobody_is_sent_to_the_index_for_bertlab():
    """The name bertlab belongs to another project there."""
    files = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("bertlab/**/*.py"), *CHECKOUT.glob("notebooks/*.ipynb"), *CHECKOUT.glob(".github/**/*.yml")]
    for file in files:
        assert not re.search(r"pip3? install[^\n&;|]*\bbertlab\b(?!-mini)", file.read_text(encoding="utf-8")), file


def test_requirements_are_exact_and_name_no_index():
    text = (CHECKOUT / "requirements.txt").read_text(encoding="utf-8")
    assert "torch==2.13.0\n" in text and "torchvision" not in text
    assert not re.search(r"^\s*-(?!e \.$)", text, re.MULTILINE)
    for requirement in requirements("requirements.txt"):
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement


def test_the_lock_pins_every_requirement_and_what_it_pulls_in():
    lock = {canonicalize_name(r.name): r for r in requirements("requirements.lock")}
    assert not any("+" in str(r.specifier) for r in lock.values())
    open_, seen = requirements("requirements.txt"), set()
    while open_:
        requirement = open_.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        assert name in lock, f"{name} is not in requirements.lock: make it again as its first lines say"
        version = str(lock[name].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), f"{requirement} but the lock has {version}"
        try:
            needs = map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:
            continue  # another platform's
        extras = requirement.extras or {""}
        open_ += [need for need in needs if not need.marker or any(need.marker.evaluate({"extra": extra}) for extra in extras)]


def test_pyprojects_floors_admit_the_pins():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    pins = {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in requirements("requirements.txt")}
    for floor in map(Requirement, project["project"]["dependencies"]):
        assert floor.specifier.contains(pins[canonicalize_name(floor.name)]), floor
    assert project["build-system"]["requires"] == [f"hatchling=={pins['hatchling']}"]
    assert project["project"]["name"] == "bertlab-course"
