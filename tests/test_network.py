"""Nothing opens a connection off the machine, whether there is a network or not: no notebook and no command.

A hook in every Python process, the lab's server and the kernels among them, writes down each attempt (network_watch/sitecustomize.py).
The one exception is declared: `bertlab doctor` asks whether the Hub can be reached. It opens a connection to it, sends nothing, and
does not even look up its name where HF_HUB_OFFLINE is set. What compiled code does by itself is not seen here: runs/offline.py runs
all the tests where there is no network.
"""

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
import store_outputs
from nbclient import NotebookClient
from test_cli import TINY, address_in, get, text, wait_for  # noqa: F401: text is a fixture

CHECKOUT = Path(__file__).resolve().parent.parent
WATCH = Path(__file__).parent / "network_watch"
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("[0-9]*.ipynb"))
NOWHERE = "no-such-host.invalid"  # RFC 2606: never a machine


class Watch:
    """An environment as a learner has it, and what the processes in it did: `environment`, `watched()`, `attempts()`."""

    def __init__(self, folder: Path):
        self.log = folder / "network.jsonl"
        self.log.touch()
        unset = ("HF_", "BERTLAB_", "TRANSFORMERS_", "JUPYTER", "IPYTHON", "DO_NOT_TRACK")
        kept = {n: v for n, v in os.environ.items() if not n.startswith(unset) and not n.lower().endswith("_proxy")}  # a proxy may be on loopback
        names = ("HOME", "USERPROFILE", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
        home = {name: str(folder / name.lower()) for name in names}
        path = os.pathsep.join(filter(None, [str(WATCH), str(CHECKOUT), os.environ.get("PYTHONPATH")]))
        ours = {"PYTHONPATH": path, "BERTLAB_NETWORK_LOG": str(self.log), "BERTLAB_PROGRESS": str(folder / "progress.jsonl")}
        self.environment = {**kept, **home, **ours}

    def _lines(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def watched(self) -> list[str]:
        """The command lines of the processes that were watched."""
        return [program for event, _, program in self._lines() if event == "watched"]

    def attempts(self) -> list[tuple[str, str]]:
        """(event, target) of everything that was to leave the machine."""
        return [(event, target) for event, target, _ in self._lines() if event != "watched"]

    def python(self, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, env={**self.environment, **environment}, cwd=self.log.parent, capture_output=True, text=True, timeout=600)


@pytest.fixture
def watch(tmp_path) -> Watch:
    return Watch(tmp_path)


# ---------------------------------------------------------------- the hook sees what it is for

LEAVES = """
import socket
with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    tcp.settimeout(0.01)
    tcp.connect_ex(("192.0.2.1", 443))
    try: udp.sendto(b"x", ("192.0.2.2", 9))
    except OSError: pass
    try: socket.getaddrinfo("no-such-host.invalid", 443)
    except OSError: pass
"""
SEEN = [("socket.connect", "192.0.2.1"), ("socket.sendto", "192.0.2.2"), ("socket.getaddrinfo", NOWHERE)]
STAYS = """
import os, socket, tempfile, urllib.request
with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
    client.connect(server.getsockname())
    socket.create_connection(("localhost", server.getsockname()[1])).close()
    socket.getaddrinfo(None, 0), socket.getaddrinfo("::1", 0)
if hasattr(socket, "AF_UNIX"):
    path = tempfile.mkdtemp(dir="/tmp") + "/s"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path), server.listen(), client.connect(path)
"""


def test_what_leaves_the_machine_is_seen_in_child_processes_too(watch):
    done = watch.python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LEAVES!r}], check=True)")
    assert done.returncode == 0, done.stderr
    assert watch.attempts() == SEEN and len(watch.watched()) == 2


def test_what_stays_on_the_machine_is_not(watch):
    done = watch.python(STAYS)
    assert done.returncode == 0, done.stderr
    assert watch.attempts() == [] and len(watch.watched()) == 1


def test_a_kernel_is_watched(watch):
    run([nbformat.v4.new_code_cell(LEAVES)], watch, watch.log.parent)
    assert watch.attempts() == SEEN
    assert any("ipykernel" in program for program in watch.watched())


# ---------------------------------------------------------------- notebooks


def run(cells: list, watch: Watch, folder: Path) -> nbformat.NotebookNode:
    """Run cells in a kernel of their own; those tagged `hub` too, as Run All does."""
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, coalesce_streams=True)
    return client.execute(env=watch.environment)


@pytest.mark.soak
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_stays_on_the_machine(path, watch):
    ended = run(nbformat.v4.reads(path.read_text(encoding="utf-8")).cells, watch, CHECKOUT / "notebooks")
    code = [cell for cell in ended.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any("ipykernel" in program for program in watch.watched())
    assert watch.attempts() == []


# ---------------------------------------------------------------- commands

COMMANDS = """
import json, os, sys
from pathlib import Path
from bertlab import cli
folder = Path("notebooks")
(folder / ".originals").mkdir(parents=True)
(folder / ".originals/00_start_here.ipynb").write_text("original")
(folder / "00_start_here.ipynb").write_text("mine")
cli.notebooks_folder = lambda: folder  # not the checkout's
for command in json.loads(sys.argv[1]):
    try:
        status = cli.main(command)
    except SystemExit as stop:
        status = stop.code
    assert not status, (command, status)
"""


def test_the_commands_stay_on_the_machine_but_for_the_doctors_question(watch, text):  # noqa: F811
    pretrain = ["pretrain", str(text / "text.txt"), "--output", "run", "--tokens", "2k", *TINY]
    commands = [["models"], ["reset"], ["pack", "--help"], pretrain, ["doctor"], ["doctor", "--json"]]
    done = watch.python(COMMANDS, json.dumps(commands), HF_ENDPOINT=f"https://{NOWHERE}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "00_start_here.ipynb is as it was; yours is" in done.stdout and "not reachable; the course does not need it" in done.stdout
    assert watch.attempts() == [("socket.getaddrinfo", NOWHERE)] * 2  # one for each doctor


def test_the_doctor_does_not_ask_where_that_is_forbidden(watch):
    done = watch.python("from bertlab import cli; print(next(cli._check_hub()).detail)", HF_HUB_OFFLINE="1", HF_ENDPOINT=f"https://{NOWHERE}")
    assert done.stdout.startswith("not asked"), done.stderr
    assert watch.watched() and watch.attempts() == []


@contextmanager
def lab(watch: Watch):
    """`bertlab lab` from another folder; gives its address and token."""
    command = [sys.executable, "-m", "bertlab.cli", "lab", "--no-browser", "--ServerApp.port=0"]
    log = watch.log.with_name("lab.log")
    with open(log, "w") as out, subprocess.Popen(command, cwd=log.parent, env=watch.environment, stdout=out, stderr=out) as server:
        try:
            yield wait_for(lambda: address_in(log), server).groups()
        finally:
            server.terminate()


def test_the_lab_stays_on_the_machine(watch):
    """From start to stop, with a page opened and a kernel used."""
    with lab(watch) as (address, token):
        post = urllib.request.Request(f"{address}/api/kernels", b"{}", {"Authorization": f"token {token}"}, method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        kernel = json.load(opener.open(post, timeout=60))["id"]
        assert b"jupyter-config-data" in opener.open(f"{address}/lab/tree/00_start_here.ipynb?token={token}", timeout=60).read()
        assert get(address, token, "/lab/api/settings")["settings"]
        assert get(address, token, f"/api/kernels/{kernel}")["name"] == "python3"
    programs = " ".join(watch.watched())
    assert "jupyterlab" in programs and "ipykernel" in programs
    assert watch.attempts() == []
