"""`bertlab pack`: a bundle of a tiny project, from an index of tiny wheels; the real one is a soak test."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from bertlab import cli, pack
from bertlab.bundle import install

CHECKOUT = Path(__file__).resolve().parent.parent
HERE = pack.this_machine()
needs_git = pytest.mark.skipif(not shutil.which("git"), reason="needs git")

UV = """
import json, sys
from pathlib import Path
arguments = sys.argv[1:]
here = Path(__file__).parent
with (here / "asked.jsonl").open("a") as log:
    log.write(json.dumps(arguments) + "\\n")
print((here / (arguments[arguments.index("--python-platform") + 1] + ".txt")).read_text())
"""
# builds an editable install of the tiny course with nothing but the standard library
BACKEND = """
import zipfile
from pathlib import Path
def build_editable(folder, *_):
    info = "tiny_course-1.0.dist-info"
    files = {
        "tiny.pth": str(Path.cwd()) + "\\n",
        info + "/METADATA": "Metadata-Version: 2.1\\nName: tiny-course\\nVersion: 1.0\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: tiny\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        info + "/RECORD": "",
    }
    with zipfile.ZipFile(Path(folder, "tiny_course-1.0-py3-none-any.whl"), "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return "tiny_course-1.0-py3-none-any.whl"
"""
DOCTOR = """
import os, sys
import alpha, seqeval
assert sys.argv[1:] == ["doctor"] and os.environ["PIP_CONFIG_FILE"] == os.devnull
print("[FAIL] no good" if os.path.exists("sick") else "All is well")
sys.exit(os.path.exists("sick"))
"""


def wheel(folder: Path, name: str, version: str = "1.0", tag: str = "py3-none-any") -> Path:
    """A wheel with one module, made by hand."""
    info = f"{name}-{version}.dist-info"
    file = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """Tiny packages in a folder, and pip told to look nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel(folder, "alpha")
    wheel(folder, "beta", tag="cp312-cp312-win_amd64")
    wheel(folder, "beta", tag="cp39-abi3-macosx_11_0_arm64")
    source = tmp_path / "seqeval-1.2.2"
    source.mkdir()
    (source / "setup.py").write_text("from setuptools import setup\nsetup(name='seqeval', version='1.2.2', py_modules=['seqeval'])\n")
    (source / "seqeval.py").touch()
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: seqeval\nVersion: 1.2.2\n")
    with tarfile.open(folder / "seqeval-1.2.2.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def uv(tmp_path, monkeypatch) -> Path:
    """A stand-in for uv that answers with the file PLATFORM.txt beside it and writes down what it was asked."""
    folder = tmp_path / "uv"
    folder.mkdir()
    (folder / "uv.py").write_text(UV)
    for name in pack.PLATFORMS.values():
        (folder / f"{name}.txt").write_text("alpha==1.0\nseqeval==1.2.2\n")
    monkeypatch.setattr(pack, "find_uv", lambda: [sys.executable, str(folder / "uv.py")])
    return folder


def asked(uv: Path) -> list[list[str]]:
    return [json.loads(line) for line in (uv / "asked.jsonl").read_text().splitlines()]


@pytest.fixture
def project(tmp_path) -> Path:
    """A clone of a tiny course."""
    root = tmp_path / "clone"
    files = {
        "requirements.txt": "-e .\nalpha==1.0\nseqeval==1.2.2\n",
        "requirements.lock": "alpha==1.0\nseqeval==1.2.2\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "tiny-course"\nversion = "1.0"\n',
        "backend.py": BACKEND,
        "bertlab/__init__.py": "",
        "bertlab/cli.py": DOCTOR,
        "notebooks/01_a.ipynb": "as it came",
        "data/wörter und.txt": "weights",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "all")
    (root / "notes.txt").write_text("not tracked")
    return root


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


# ---------------------------------------------------------------- the command line


def test_the_command_line(monkeypatch):
    seen = []
    monkeypatch.setattr(pack, "pack", lambda *arguments: seen.append(arguments))
    assert cli.main(["pack", "room"]) == 0
    assert cli.main(["pack", "room", "--platform", "macos-arm64", "windows-x86_64", "--python", "3.12", "--python", "3.13", "--no-proof"]) == 0
    assert seen == [(Path("room"), [], [], True), (Path("room"), ["macos-arm64", "windows-x86_64"], ["3.12", "3.13"], False)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--platform", "macos-x86_64"], "There is no torch for macos-x86_64: --platform takes linux-x86_64, linux-arm64, macos-arm64, windows-x86_64."),
        (["--python", "3.10"], "There is no torch for Python 3.10: --python takes 3.11, 3.12, 3.13, 3.14."),
    ],
)
def test_an_unknown_target_is_one_line(arguments, message, tmp_path, capsys):
    assert cli.main(["pack", str(tmp_path / "room"), *arguments]) == 2
    assert capsys.readouterr().err == f"bertlab: {message}\n"


def test_without_uv_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    assert cli.main(["pack", str(tmp_path / "room"), "--platform", "macos-arm64", "--python", "3.12"]) == 2
    assert "pip install uv" in capsys.readouterr().err
    assert not (tmp_path / "room").exists()


def test_targets_are_every_platform_with_every_python():
    assert pack.targets(["macos-arm64", "windows-x86_64"], ["3.12", "3.13"]) == [
        pack.Target(name, version) for name in ("macos-arm64", "windows-x86_64") for version in ("3.12", "3.13")
    ]


@pytest.mark.parametrize(
    ("target", "fits", "does_not"),
    [
        (pack.Target("macos-arm64", "3.12"), ["cp312-cp312-macosx_14_0_arm64", "cp39-abi3-macosx_11_0_universal2"], ["cp312-cp312-macosx_15_0_arm64"]),
        (pack.Target("windows-x86_64", "3.14"), ["cp314-cp314-win_amd64", "py3-none-any"], ["cp313-cp313-win_amd64", "cp314-cp314t-win_amd64"]),
        (pack.Target("linux-arm64", "3.11"), ["cp311-cp311-manylinux_2_28_aarch64", "py3-none-manylinux2014_aarch64"], ["cp311-cp311-manylinux_2_34_aarch64"]),
    ],
)
def test_which_wheels_fit(target, fits, does_not):
    tags = {str(tag) for tag in target.tags()}
    assert tags >= set(fits) and not tags & set(does_not)


# ---------------------------------------------------------------- asking uv


def test_uv_is_asked_for_the_platform_and_looks_where_pip_looks(uv, project, monkeypatch, tmp_path):
    configuration = tmp_path / "pip.conf"
    two = "extra-index-url = https://two.example/a\n  https://two.example/b"
    configuration.write_text(f"[global]\nindex-url = https://one.example/simple\n{two}\n[install]\nno-index = 1\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path.as_uri()} https://three.example")
    assert pack.resolve(pack.Target("macos-arm64", "3.11"), pack.find_uv(), project) == ["alpha==1.0", "seqeval==1.2.2"]
    (command,) = asked(uv)
    assert command[:5] == ["pip", "compile", "requirements.txt", "--constraints", "requirements.lock"]
    assert options(command, "--python-platform") == ["aarch64-apple-darwin"] and options(command, "--python-version") == ["3.11.5"]
    assert options(command, "--find-links") == [tmp_path.as_uri(), "https://three.example"]
    assert options(command, "--index-url") == ["https://one.example/simple"]
    assert options(command, "--extra-index-url") == ["https://two.example/a", "https://two.example/b"]
    assert options(command, "--index-strategy") == ["unsafe-best-match"] and "--no-index" not in command


def options(command: list[str], name: str) -> list[str]:
    return [value for option, value in zip(command, command[1:]) if option == name]


def test_torch_with_cuda_is_refused_before_anything_is_fetched(uv, index, project, tmp_path):
    (uv / "x86_64-manylinux_2_28.txt").write_text("alpha==1.0\nnvidia-cublas==13.1\nnvidia-nccl-cu13==2.29\ntorch==2.13.0\n")
    message = r"linux-x86_64 with Python 3.12 .* 2 packages like nvidia-nccl-cu13.*Set PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"
    with pytest.raises(pack.PackError, match=message):
        pack.pack(tmp_path / "room", ["macos-arm64", "linux-x86_64"], ["3.12"], root=project)
    assert not (tmp_path / "room").exists()
    assert "export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu" in (CHECKOUT / "README.md").read_text(encoding="utf-8")


def test_uvs_own_words_are_passed_on(uv, index, project, tmp_path):
    (uv / "uv.py").write_text("import sys\nsys.exit('error: no such package')\n")
    with pytest.raises(pack.PackError, match="what macos-arm64 with Python 3.12 needs: error: no such package"):
        pack.pack(tmp_path / "room", ["macos-arm64"], ["3.12"], root=project)


# ---------------------------------------------------------------- the bundle


@needs_git
def test_a_bundle_for_other_machines(uv, index, project, tmp_path, capsys):
    for name in ("aarch64-apple-darwin", "x86_64-pc-windows-msvc"):
        (uv / f"{name}.txt").write_text("alpha==1.0\nbeta==1.0\nseqeval==1.2.2\n")
    room = tmp_path / "my room"
    pack.pack(room, ["macos-arm64", "windows-x86_64"], ["3.12"], proof=False, root=project)
    wheels = {file.name for file in (room / "wheelhouse").iterdir()}
    beta = {"beta-1.0-cp312-cp312-win_amd64.whl", "beta-1.0-cp39-abi3-macosx_11_0_arm64.whl"}
    assert wheels == {"alpha-1.0-py3-none-any.whl", "seqeval-1.2.2-py3-none-any.whl"} | beta
    tracked = {"requirements.txt", "requirements.lock", "pyproject.toml", "backend.py", "bertlab/__init__.py", "bertlab/cli.py", "data/wörter und.txt", "notebooks/01_a.ipynb"}
    assert {file.relative_to(room / "bertlab").as_posix() for file in (room / "bertlab").rglob("*") if file.is_file()} == tracked
    # when everything is there uv is asked again, about the wheelhouse alone
    assert [("--no-index" in command, options(command, "--find-links")) for command in asked(uv)[2:]] == [(True, [(room / "wheelhouse").as_uri()])] * 2
    said, read = capsys.readouterr().out, (room / "README.txt").read_text(encoding="utf-8")
    for target in ("macos-arm64 with Python 3.12", "windows-x86_64 with Python 3.12"):
        assert f"{target}: complete, but not tried, as --no-proof said" in said
        assert f"{target}: 3 packages, 0 MB (complete, but not tried)" in read
    assert json.loads((room / "bundle.json").read_text()) == {"platforms": ["macos-arm64", "windows-x86_64"], "pythons": ["3.12"], "python_needed": [3, 11, 5]}
    assert not list(room.rglob("*.partial"))
    check_manifest(room)


def check_manifest(room: Path) -> None:
    """SHA256SUMS names every file but itself, with its hash."""
    lines = [line.split("  ", 1) for line in (room / "SHA256SUMS").read_text(encoding="utf-8").splitlines()]
    files = {file.relative_to(room).as_posix(): file for file in room.rglob("*") if file.is_file()}
    assert {name for _, name in lines} == set(files) - {"SHA256SUMS"}
    assert all(hashlib.sha256(files[name].read_bytes()).hexdigest() == digest for digest, name in lines)


@needs_git
def test_packing_again_fetches_what_is_missing_and_drops_what_is_not_needed(uv, index, project, tmp_path, monkeypatch, capsys):
    (uv / "x86_64-pc-windows-msvc.txt").write_text("alpha==1.0\nbeta==1.0\n")
    fetched, real, interrupted = [], pack.fetch, tmp_path / "room" / "wheelhouse.partial" / "beta-1.0-cp312-cp312-win_amd64.whl"

    def fetch(pins, *rest):
        fetched.extend(pins)
        if len(fetched) == 2:
            interrupted.parent.mkdir()
            interrupted.write_text("half a wheel")
            raise KeyboardInterrupt
        real(pins, *rest)

    monkeypatch.setattr(pack, "fetch", fetch)
    monkeypatch.setattr(pack, "BATCH", 1)
    again = {"platforms": ["windows-x86_64"], "pythons": ["3.12"], "proof": False, "root": project}
    with pytest.raises(KeyboardInterrupt):
        pack.pack(tmp_path / "room", **again)
    assert [file.name for file in (tmp_path / "room" / "wheelhouse").iterdir()] == ["alpha-1.0-py3-none-any.whl"]
    assert "not finished" in (tmp_path / "room" / "README.txt").read_text() and not (tmp_path / "room" / "SHA256SUMS").exists()
    wheel(tmp_path / "room" / "wheelhouse", "old")
    (project / "bertlab" / "cli.py").write_text("changed")
    pack.pack(tmp_path / "room", **again)
    assert fetched == ["alpha==1.0", "beta==1.0", "beta==1.0"]
    assert sorted(file.name for file in (tmp_path / "room" / "wheelhouse").iterdir()) == ["alpha-1.0-py3-none-any.whl", "beta-1.0-cp312-cp312-win_amd64.whl"]
    said = capsys.readouterr().out
    assert "2 packages, 1 to fetch" in said and "Removing old-1.0-py3-none-any.whl" in said
    assert "1 files differ from the last commit and are packed as they are: bertlab/cli.py" in said
    assert (tmp_path / "room" / "bertlab" / "bertlab" / "cli.py").read_text() == "changed"
    check_manifest(tmp_path / "room")


@needs_git
def test_a_package_without_a_wheel_is_named(uv, index, project, tmp_path):
    (uv / "x86_64-pc-windows-msvc.txt").write_text("alpha==1.0\nbeta==2.0\n")
    with pytest.raises(pack.PackError, match="could not download the wheels for windows-x86_64 with Python 3.12: .*beta==2.0"):
        pack.pack(tmp_path / "room", ["windows-x86_64"], ["3.12"], root=project)


@needs_git
def test_a_full_disk_is_told_in_a_sentence(uv, index, project, tmp_path, monkeypatch):
    with pytest.raises(OSError, match="No space left"):
        pack._run([sys.executable, "-c", "raise OSError(28, 'No space left on device')"], "it failed")
    (uv / "uv.py").write_text("import sys\nsys.exit('error: No space left on device (os error 28)')\n")
    with pytest.raises(pack.PackError, match=r"^The disk is full \(.* MB in .* left\)\. Make room or set TMPDIR .* it goes on where it stopped\.$"):
        pack.pack(tmp_path / "room", ["macos-arm64"], ["3.12"], root=project)


@needs_git
def test_a_folder_with_something_else_in_it_is_left_alone(uv, index, project, tmp_path):
    other = tmp_path / "other"
    (other / "bertlab").mkdir(parents=True)
    (other / "bertlab" / "thesis.txt").write_text("mine")
    with pytest.raises(pack.PackError, match="holds something that bertlab pack did not make"):
        pack.pack(other, ["macos-arm64"], ["3.12"], root=project)
    assert (other / "bertlab" / "thesis.txt").read_text() == "mine" and len(list(other.iterdir())) == 1


@needs_git
def test_only_a_clone_can_be_packed(uv, project, tmp_path):
    (project / "data" / "wörter und.txt").unlink()
    with pytest.raises(pack.PackError, match="git knows data/wörter und.txt, but it is not in .*git restore"):
        pack.tracked_files(project)
    shutil.rmtree(project / ".git", ignore_errors=True)
    if not (project / ".git").exists():
        with pytest.raises(pack.PackError, match="is no clone of the repository.*clone it"):
            pack.pack(tmp_path / "room", ["macos-arm64"], ["3.12"], root=project)


# ---------------------------------------------------------------- the installers


@needs_git
@pytest.mark.skipif(HERE.platform not in pack.PLATFORMS or HERE.python not in pack.PYTHONS, reason="torch has no wheels for this machine")
def test_this_machines_bundle_is_installed_and_looked_at(uv, index, project, tmp_path, capfd):
    room = tmp_path / "a room"
    pack.pack(room, root=project)
    assert f"{HERE}: proved" in capfd.readouterr().out
    assert "tried on such a machine" in (room / "README.txt").read_text()
    check_manifest(room)
    # the same as a learner does it, twice: what they changed is kept
    for _ in range(2):
        done = learner(room, tmp_path / "my course")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "All is well" in done.stdout and "bertlab lab" in done.stdout
        (tmp_path / "my course" / "data" / "mine.txt").write_text("my own work")
    assert (tmp_path / "my course" / "notebooks" / ".originals" / "01_a.ipynb").read_text() == "as it came"
    assert "Keeping the files" in done.stdout and (tmp_path / "my course" / "data" / "mine.txt").exists()
    # a doctor that finds something wrong fails the installation, and so the proof
    (project / "sick").touch()
    git(project, "add", "sick")
    with pytest.raises(pack.PackError, match=r"could not be installed on this machine: .*\[FAIL\] no good"):
        pack.pack(room, root=project)
    assert "not finished" in (room / "README.txt").read_text()


def learner(room: Path, course: Path) -> subprocess.CompletedProcess:
    """Run the bundle's script, where pip is told to look elsewhere."""
    script = ["sh", str(room / "install.sh")] if os.name != "nt" else ["powershell", "-ExecutionPolicy", "Bypass", "-File", str(room / "install.ps1")]
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_INDEX_URL": "http://127.0.0.1:9/"}
    return subprocess.run([*script, str(course)], capture_output=True, text=True, env=environment)


@pytest.fixture
def bundle(tmp_path, monkeypatch) -> Path:
    """The installers, with a bundle.json for this machine and this Python."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    pack.write_installers(folder, [HERE])
    monkeypatch.setattr(install, "BUNDLE", folder)
    return folder


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("platforms", ["plan9-vax"], f"This is {HERE.platform}, and the bundle is for plan9-vax."),
        ("pythons", ["2.7"], "and the bundle is for 2.7 (3.11.5 or newer)."),
        ("python_needed", [99, 0, 0], "(99.0.0 or newer)."),
    ],
)
def test_a_bundle_for_others_says_for_whom_it_is(field, value, message, bundle, capsys):
    assert install.main(["--fits"]) == 0
    told = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**told, field: value}))
    assert install.main(["--fits"]) == 1
    assert message in capsys.readouterr().err


def test_the_installer_overwrites_nothing(bundle, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").touch()
    assert install.main([str(tmp_path / "taken")]) == 1
    assert "exists and is not the course: name another folder." in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="install.sh is for Linux and macOS")
def test_install_sh_says_what_was_wrong_with_the_python_it_found(bundle, tmp_path):
    (bundle / "bundle.json").write_text(json.dumps({"platforms": [HERE.platform], "pythons": ["2.7"], "python_needed": [2, 7, 0]}))
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    (programs / "dirname").symlink_to(shutil.which("dirname"))
    done = subprocess.run([shutil.which("sh"), str(bundle / "install.sh")], capture_output=True, text=True, env={"PATH": str(programs)})
    assert done.returncode == 1
    assert "and the bundle is for 2.7" in done.stderr and "PYTHON=/path/to/python3 sh install.sh" in done.stderr


def test_the_installers_can_be_read_everywhere():
    """The scripts are plain ASCII with line feeds, and install.py keeps to what an old Python can parse."""
    for file in pack.INSTALLERS.glob("install.*"):
        assert file.read_bytes().isascii() and b"\r" not in file.read_bytes()
    import ast

    ast.parse((pack.INSTALLERS / "install.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    powershell = (pack.INSTALLERS / "install.ps1").read_text(encoding="utf-8")
    shell = (pack.INSTALLERS / "install.sh").read_text(encoding="utf-8")
    for version in pack.PYTHONS:
        assert f"'{version}'" in powershell and f"python{version}" in shell


# ---------------------------------------------------------------- the real thing


@pytest.mark.soak
@needs_git
@pytest.mark.skipif(not importlib.util.find_spec("uv") and not shutil.which("uv"), reason="needs uv")
def test_the_real_course_is_packed_and_proved_for_this_machine(tmp_path, capfd):
    pack.pack(tmp_path / "room")
    assert f"{HERE}: proved" in capfd.readouterr().out
    names = {file.name for file in (tmp_path / "room" / "wheelhouse").iterdir()}
    assert "seqeval-1.2.2-py3-none-any.whl" in names and not [name for name in names if name.startswith("nvidia")]
    assert (tmp_path / "room" / "bertlab" / "data" / "models" / "bertlab-mini" / "model.safetensors").is_file()
    check_manifest(tmp_path / "room")
