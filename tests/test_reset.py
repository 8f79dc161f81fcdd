"""`bertlab reset` gives the original back and never loses a learner's work."""

import subprocess

import pytest

from bertlab import cli, originals

NAMES = ("01_a.ipynb", "02_b.ipynb", "10_c.ipynb")


@pytest.fixture
def packaged(tmp_path):
    """A wheel's notebooks."""
    folder = tmp_path / "package" / "notebooks"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_text(f"original {name}")
    return folder


@pytest.fixture
def learner(tmp_path, packaged):
    folder = tmp_path / "a learner's notebooks"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes((packaged / name).read_bytes())
    (folder / "02_b.ipynb").write_text("my work")
    return folder


def test_one_notebook_is_restored_and_mine_is_kept(learner, packaged):
    restored = originals.reset(learner, ["02"], packaged)
    assert restored == [("02_b.ipynb", learner / "mine" / "02_b-1.ipynb")]
    assert (learner / "02_b.ipynb").read_text() == "original 02_b.ipynb"
    assert (learner / "mine" / "02_b-1.ipynb").read_text() == "my work"
    assert sorted(p.name for p in learner.iterdir()) == [*NAMES, "mine"]


def test_earlier_copies_stay(learner, packaged):
    for number in range(1, 4):
        (learner / "02_b.ipynb").write_text(f"try {number}")
        originals.reset(learner, ["02"], packaged)
    assert [p.read_text() for p in sorted((learner / "mine").iterdir())] == ["try 1", "try 2", "try 3"]


def test_without_a_number_only_what_was_changed(learner, packaged):
    (learner / "10_c.ipynb").unlink()
    assert originals.reset(learner, [], packaged) == [("02_b.ipynb", learner / "mine" / "02_b-1.ipynb"), ("10_c.ipynb", None)]
    assert originals.reset(learner, [], packaged) == []


def test_a_number_that_does_not_exist(learner, packaged):
    with pytest.raises(ValueError, match="No notebook begins with 77; there are 01, 02, 10."):
        originals.reset(learner, ["02", "77"], packaged)
    assert (learner / "02_b.ipynb").read_text() == "my work"


def test_if_the_original_cannot_be_written_mine_stays(learner, packaged, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(originals.os, "replace", full)
    with pytest.raises(OSError):
        originals.reset(learner, ["02"], packaged)
    assert (learner / "02_b.ipynb").read_text() == "my work"


def test_in_a_checkout_git_has_the_originals(learner, packaged, tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], cwd=learner, check=True, capture_output=True)

    git("init", "-q"), git("add", "."), git("commit", "-qm", "all")
    (learner / "01_a.ipynb").write_text("my later work")
    assert originals.reset(learner, [], tmp_path / "none") == [("01_a.ipynb", learner / "mine" / "01_a-1.ipynb")]
    assert (learner / "01_a.ipynb").read_text() == "original 01_a.ipynb"


def test_a_bundles_course_keeps_the_originals_beside_the_notebooks(learner, packaged, tmp_path):
    packaged.rename(learner / ".originals")
    assert originals.reset(learner, ["02"], tmp_path / "none") == [("02_b.ipynb", learner / "mine" / "02_b-1.ipynb")]
    assert (learner / "02_b.ipynb").read_text() == "original 02_b.ipynb"


def test_without_git_it_says_what_to_do(learner, tmp_path):
    with pytest.raises(ValueError, match="clone the repository again"):
        originals.reset(learner, ["02"], tmp_path / "none")
    assert (learner / "02_b.ipynb").read_text() == "my work"


def test_the_command(learner, packaged, monkeypatch, capsys):
    monkeypatch.setattr(cli, "PACKAGE", packaged.parent)
    monkeypatch.setattr(cli, "notebooks_folder", lambda: learner)
    assert cli.main(["reset", "02"]) == 0
    out = capsys.readouterr().out
    assert f"02_b.ipynb is as it was; yours is {learner / 'mine' / '02_b-1.ipynb'}" in out and "Reload" in out
    assert cli.main(["reset"]) == 0 and "Nothing to do: every notebook is as it was." in capsys.readouterr().out
    assert cli.main(["reset", "5"]) == 2 and "No notebook begins with 5" in capsys.readouterr().err
