"""No telemetry, no update check, no download: nothing that a learner starts connects to another machine.

A hook in every Python process of the run (the kernels' too) notes each attempt to reach or to look up a host that is not this
machine. Sockets that C or Rust code opens by itself are not seen; those of the kernels' messages are bound to 127.0.0.1.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_cli import JUPYTERS_PLACES, address_in, get, wait_for
from test_outputs_mean_something import ROOT, counts, nbval

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
HOOK = '''
import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        host = arguments[1][0] if isinstance(arguments[1], tuple) else "localhost"  # a path is a socket of this machine
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex"):
        host = arguments[0] or "localhost"
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if not host.startswith("127.") and host not in ("localhost", "::1", "0.0.0.0", "::"):
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{host} by {' '.join(sys.argv)[:200]}\\n")

sys.addaudithook(watch)
'''


@pytest.fixture
def watched(tmp_path) -> dict[str, str]:
    """An environment in which every Python process notes its attempts in ATTEMPTS."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    places = {name: str(tmp_path / name) for name in ("HOME", "USERPROFILE", *JUPYTERS_PLACES)}
    path = os.pathsep.join([str(tmp_path / "hook"), str(ROOT)])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "BERTLAB_")) and not name.lower().endswith("_proxy")}
    return {**kept, **places, "PYTHONPATH": path, "ATTEMPTS": str(tmp_path / "attempts")}


def attempts(environment: dict[str, str]) -> list[str]:
    file = Path(environment["ATTEMPTS"])
    return file.read_text().splitlines() if file.exists() else []


def bertlab(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "bertlab.cli", *arguments], env=environment, capture_output=True, text=True, timeout=300)


def test_the_hook_sees_an_attempt(watched):
    """Also in a child process, and whether or not there is a network."""
    code = "import socket, subprocess, sys\ntry: socket.create_connection(('192.0.2.1', 9), timeout=0.01)\nexcept OSError: pass\n"
    subprocess.run([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"], env=watched, check=True)
    assert any(line.startswith("192.0.2.1 ") for line in attempts(watched))


@pytest.mark.parametrize("command", ["models", "pretrain", "reset", "--help"])
def test_a_command_connects_to_nobody(watched, command, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("A cat sat.\nIt slept.\n\nRain fell.\nThe river rose.\n" * 20)
    more = {
        "pretrain": [str(text), "--output", str(tmp_path / "out"), "--tokens", "300", "--layers", "1", "--hidden", "64", "--batch-tokens", "100", "--held-out", "0", "--quiet"],
        "reset": ["99"],
    }
    done = bertlab(watched, command, *more.get(command, []))
    assert done.returncode == (2 if command == "reset" else 0), done.stderr
    assert attempts(watched) == []


def test_the_doctor_asks_for_the_hub_and_for_nobody_else(watched):
    """Its last line says whether the Hub can be reached: the one question that leaves the machine."""
    done = bertlab({**watched, "HF_ENDPOINT": "http://hub.invalid"}, "doctor")
    assert done.returncode == 0, done.stdout
    assert {line.split()[0] for line in attempts(watched)} <= {"hub.invalid"}


def test_the_lab_connects_to_nobody(watched, tmp_path):
    command = [sys.executable, "-m", "bertlab.cli", "lab", "--no-browser", "--ServerApp.port=0"]
    with open(tmp_path / "log", "w+") as log, subprocess.Popen(command, cwd=tmp_path, env=watched, stdout=log, stderr=log) as server:
        try:
            address, token = wait_for(lambda: address_in(tmp_path / "log"), server).groups()
            get(address, token, "/api/contents")
            get(address, token, "/lab/api/settings")
            time.sleep(1)  # what it does by itself after the start
        finally:
            server.terminate()
    assert attempts(watched) == []


@pytest.mark.parametrize("notebook", [pytest.param(n, marks=[] if n.stem[:2] == "00" else pytest.mark.soak) for n in NOTEBOOKS], ids=lambda n: n.stem)
def test_a_notebook_connects_to_nobody(watched, notebook):
    places = {name: watched[name] for name in ("PYTHONPATH", "ATTEMPTS", "HOME")}
    report = nbval(notebook, notebook.parent, **places)
    assert set(counts(report)) <= {"passed", "skipped"}, report[-2000:]
    assert attempts(watched) == []
