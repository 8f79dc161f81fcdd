"""A model from the Hub, when the network, the Hub, the disk or the cache is not what it should be.

Each fault gives one CheckpointError in words, leaves nothing half-loaded, and the next try works.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

import bertlab as bl
from bertlab import checkpoints, hub

sys.path.insert(0, str(Path(__file__).parent))
from hub_standin import Fault, HubStandIn  # noqa: E402

NAME, WEIGHTS = "bert-base-uncased", "model.safetensors"
WHOLE = (checkpoints.bundled_folder("BERT") / WEIGHTS).stat().st_size


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A checkpoint that is quickly sent: 3 MB of weights."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("small")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoints.bundled_folder("BERT") / name, folder)
    save_file({"x": np.random.default_rng(0).random(750_000, dtype=np.float32)}, folder / WEIGHTS)
    return folder


@pytest.fixture
def size(small) -> int:
    return (small / WEIGHTS).stat().st_size


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache, this process sent to it, and bl.BERT asked from the Hub; the weights count as large."""
    monkeypatch.setattr(hub, "SMALL", 1_000_000)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "PAUSE", 0.0)
    monkeypatch.setenv("BERTLAB_BERT", NAME)
    return tmp_path / "hub" / f"models--{NAME}"


def serve(monkeypatch, folder: Path, *faults: Fault) -> HubStandIn:
    """A stand-in for the Hub with one model and some faults, asked from now on."""
    standin = HubStandIn({NAME: folder}, faults=faults)
    monkeypatch.setattr(constants, "ENDPOINT", standin.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", standin.url + "/{repo_id}/resolve/{revision}/{filename}")
    return standin


def fails(*words: str) -> str:
    """bl.BERT fails with one sentence that holds these words."""
    with pytest.raises(bl.CheckpointError) as error:
        bl.BERT
    said = str(error.value)
    assert "\n" not in said and "unset BERTLAB_BERT" in said and all(word in said for word in words), said
    return said


def works(original: Path) -> Path:
    """bl.BERT is whole."""
    folder = Path(bl.BERT)
    for name in (WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (original / name).read_bytes(), name
    return folder


# ---------------------------------------------------------------- the Hub answers, but not as it should

FAULTS = {
    "429 for the list": (Fault("/api/", status=429, headers={"Retry-After": "7"}), "asked too often", "wait 7 seconds"),
    "429 for a file": (Fault(WEIGHTS, status=429, headers={"Retry-After": "9"}), "asked too often", "wait 9 seconds"),
    "429 without a time": (Fault("/api/", status=429, headers={"Retry-After": "Fri, 27 Nov 2026 12:00:00 GMT"}), "wait 60 seconds"),
    "500 for the list": (Fault("/api/", status=500), "status 500", "try again"),
    "500 for a file": (Fault("config.json", status=500), "status 500", "try again"),
    "503 for a file": (Fault(WEIGHTS, status=503), "status 503", "try again"),
    "404 for the list": (Fault("/api/", status=404, headers={"X-Error-Code": "RepoNotFound"}), "has no model called"),
    "404 for a file": (Fault(WEIGHTS, status=404, headers={"X-Error-Code": "EntryNotFound"}), "status 404"),
    "403, gated": (Fault("/api/", status=403, headers={"X-Error-Code": "GatedRepo"}), "accepted its terms"),
    "no JSON": (Fault("/api/", damaged=True, status=200), "cannot be reached"),
    "another SHA-256": (Fault(WEIGHTS, damaged=True), "arrived damaged"),
    "another SHA-1": (Fault("tokenizer.json", damaged=True), "arrived damaged"),
    "cut again and again": (Fault(WEIGHTS, cut=100_000), "the connection was cut", "0 of 3 MB", "goes on from there"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_said_and_the_next_try_works(name, place, small, monkeypatch):
    fault, *words = FAULTS[name]
    fault = Fault(**vars(fault))  # it counts
    with serve(monkeypatch, small, fault) as standin:
        fails(*words)
        assert not (place / "refs").exists(), "nothing may be visible yet"
        standin.faults.clear()
        works(small)


def test_a_cut_connection_goes_on_and_nothing_is_sent_twice(place, small, size, monkeypatch):
    with serve(monkeypatch, small, Fault(WEIGHTS, cut=size // 3, times=2)) as standin:
        works(small)
    assert standin.sent[WEIGHTS] == size
    assert sum(r.startswith("GET") and r.endswith(WEIGHTS) for r in standin.requests) == 3


def test_a_hub_that_ignores_range_is_read_from_the_start(place, small, size, monkeypatch):
    with serve(monkeypatch, small, Fault(WEIGHTS, cut=size // 2, times=1), Fault(WEIGHTS, no_range=True)):
        works(small)


def test_a_model_without_safetensors_is_refused_before_anything_is_fetched(place, monkeypatch, tmp_path):
    folder = Path(shutil.copytree(checkpoints.bundled_folder("BERT"), tmp_path / "pickled"))
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with serve(monkeypatch, folder) as standin:
        fails("no safetensors weights")
    assert not standin.sent["pytorch_model.bin"] and not standin.sent["config.json"]


@pytest.mark.parametrize("name", ["../../evil.json", "/etc/evil.json", "a\\b.json", "x/../../evil.json"])
def test_names_out_of_the_folder_are_refused(place, monkeypatch, name):
    from huggingface_hub.hf_api import ModelInfo

    rows = [{"rfilename": n, "size": 2, "blobId": "0" * 40} for n in (WEIGHTS, name)]
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: ModelInfo(id=NAME, sha="1" * 40, siblings=rows))
    fails("makes no sense")
    assert not place.exists()


# ---------------------------------------------------------------- a cache that is not whole


def truncate(folder):
    blob = (folder / WEIGHTS).resolve()
    blob.write_bytes(blob.read_bytes()[:-1000])


def truncate_small(folder):
    blob = (folder / "tokenizer_config.json").resolve()
    blob.write_bytes(blob.read_bytes()[:-10])


def change_small(folder):
    blob = (folder / "config.json").resolve()
    blob.write_text(blob.read_text().replace("384", "385"))


def drop_link(folder):
    (folder / "tokenizer.json").unlink()


def drop_optional(folder):
    (folder / "tokenizer_config.json").unlink()


def drop_blob(folder):
    (folder / WEIGHTS).resolve().unlink()


def half_reference(folder):
    (folder.parent.parent / "refs" / "main").write_text("")


@pytest.mark.parametrize("damage", [truncate, truncate_small, change_small, drop_link, drop_optional, drop_blob, half_reference])
def test_a_damaged_cache_is_noticed_and_mended(damage, place, small, size, monkeypatch):
    with serve(monkeypatch, small) as standin:
        folder = works(small)
        before = standin.sent[WEIGHTS]
        damage(folder)
        with monkeypatch.context() as offline:
            offline.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
            fails("not on this machine", "cannot be reached")
        works(small)
        assert standin.sent[WEIGHTS] - before == (size if damage in (truncate, drop_blob) else 0), "only what is damaged is fetched"


def test_what_an_interrupted_download_left_is_used(place, small, size, monkeypatch):
    with serve(monkeypatch, small) as standin:
        blob = (works(small) / WEIGHTS).resolve()
        whole = blob.read_bytes()
        shutil.rmtree(place)
        blob.parent.mkdir(parents=True)
        blob.with_name(f"{blob.name}.incomplete").write_bytes(whole[: size // 2])
        blob.with_name(f"{blob.name}.0123abcd.incomplete").write_bytes(b"another program's")
        standin.sent.clear()
        works(small)
    assert standin.sent[WEIGHTS] == size - size // 2


@pytest.mark.parametrize("left", [b"wrong" * 1000, b"x" * 4_000_000], ids=["other bytes", "too many"])
def test_a_wrong_beginning_is_thrown_away(left, place, small, size, monkeypatch):
    with serve(monkeypatch, small):
        blob = (works(small) / WEIGHTS).resolve()
        shutil.rmtree(place)
        blob.parent.mkdir(parents=True)
        blob.with_name(f"{blob.name}.incomplete").write_bytes(left)
        if len(left) < size:
            fails("arrived damaged")
        works(small)


def test_a_cache_that_others_made_is_read(place, small, monkeypatch):
    """transformers fetches only the files that it needs, and keeps no list of them."""
    with serve(monkeypatch, small):
        folder = works(small)
        shutil.rmtree(place / "bertlab")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    works(small)
    truncate_small(folder)
    fails("cannot be reached")


# ---------------------------------------------------------------- the disk


@pytest.fixture
def small_disk(tmp_path):
    if shutil.which("mount") is None or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "bertlab-test", tmp_path], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("known", [True, False], ids=["known before", "found while writing"])
def test_a_full_disk_is_said(known, small_disk, small, monkeypatch, tmp_path_factory):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(small_disk / "hub"))
    monkeypatch.setenv("BERTLAB_BERT", NAME)
    if not known:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40))
    with serve(monkeypatch, small):
        fails("free some space", "set HF_HOME")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("large")))
        works(small)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_said(place, small, monkeypatch):
    place.parent.mkdir()
    place.parent.chmod(0o500)
    with serve(monkeypatch, small):
        fails("may write to")


# ---------------------------------------------------------------- processes of their own

READ = """
import time
began = time.perf_counter()
import bertlab as bl, huggingface_hub.hf_api
imported = time.perf_counter()
try: said = bl.BERT
except bl.CheckpointError as error: said = f"CheckpointError: {error}"
print(f"{imported - began:.2f} {time.perf_counter() - imported:.2f} {said}")
"""
LIMIT = 5.0  # seconds that README.md promises


def environment(**given: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "BERTLAB_", "TRANSFORMERS_")) and not k.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": str(Path(__file__).parent.parent), "BERTLAB_BERT": NAME, **given}


def start(*before: str, code: str = READ, **given: str) -> subprocess.Popen:
    return subprocess.Popen([*before, sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**given))


def answer(process: subprocess.Popen) -> tuple[float, float, str]:
    """(seconds of the imports, seconds of bl.BERT, what it said)"""
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    imports, seconds, said = out.strip().split(" ", 2)
    return float(imports), float(seconds), said


def check_unreachable(process: subprocess.Popen) -> tuple[float, float]:
    imports, seconds, said = answer(process)
    assert said.startswith(f"CheckpointError: {NAME} is not on this machine and the Hub cannot be reached: connect to the network, or unset BERTLAB_BERT")
    assert seconds < LIMIT
    return imports, seconds


def test_a_hub_that_accepts_and_never_answers(tmp_path):
    with HubStandIn({}, faults=[Fault("/", silent=60)]) as standin:
        process = start(HF_ENDPOINT=standin.url, HF_HOME=str(tmp_path))
        check_unreachable(process)


def test_the_process_is_killed_and_the_next_one_goes_on(tmp_path):
    given = {"HF_HOME": str(tmp_path)}
    with HubStandIn({NAME: bl.BERT}, faults=[Fault(WEIGHTS, pause=0.004, times=1)]) as standin:
        process = start(HF_ENDPOINT=standin.url, **given)
        while standin.sent[WEIGHTS] < WHOLE // 3 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        (partial,) = tmp_path.glob("hub/*/blobs/*.incomplete")
        kept = partial.stat().st_size
        time.sleep(0.2)  # the stand-in notices
        first = standin.sent[WEIGHTS]
        assert WHOLE // 4 < kept < WHOLE
        folder = Path(answer(start(HF_ENDPOINT=standin.url, **given))[2])
        assert standin.sent[WEIGHTS] - first == WHOLE - kept, "what had come is not sent again"
    assert (folder / WEIGHTS).stat().st_size == WHOLE


def test_two_processes_download_once(tmp_path):
    with HubStandIn({NAME: bl.BERT}, faults=[Fault(WEIGHTS, pause=0.001)]) as standin:
        both = [start(HF_ENDPOINT=standin.url, HF_HOME=str(tmp_path)) for _ in range(2)]
        said = {answer(process)[2] for process in both}
    assert len(said) == 1 and (Path(said.pop()) / WEIGHTS).stat().st_size == WHOLE
    assert standin.sent[WEIGHTS] == WHOLE


def test_a_terminal_sees_a_bar_also_after_load_ext(tmp_path):
    pty, fcntl, termios = (pytest.importorskip(name, reason="this system has no pseudo-terminals") for name in ("pty", "fcntl", "termios"))
    code = "from bertlab.notebook import prepare\nprepare()\nimport bertlab as bl\nbl.BERT"
    with HubStandIn({NAME: bl.BERT}) as standin:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # lines and columns
        subprocess.run([sys.executable, "-c", code], stderr=slave, env=environment(HF_ENDPOINT=standin.url, HF_HOME=str(tmp_path)), check=True, timeout=120)
        os.close(slave)
        seen = os.read(master, 100_000).decode()
        os.close(master)
    assert f"Downloading {NAME}, once" in seen and "100%" in seen, seen


def test_a_cached_model_is_used_without_any_request(place, monkeypatch):
    """Neither the path nor the tokenizer nor the model asks for anything, though the Hub would answer."""
    with serve(monkeypatch, checkpoints.bundled_folder("BERT")) as standin:
        works(checkpoints.bundled_folder("BERT"))
        standin.requests.clear()
        tried = []
        monkeypatch.setattr(socket.socket, "connect", lambda self, address: tried.append(address))
        assert bl.encode("A cat sat.").hidden_states[-1].shape[-1] == 384 and len(bl.predict_masked("A [MASK].")[0]) == 5
        assert not standin.requests and not tried


# ---------------------------------------------------------------- black holes, one by one (soak)

DROP = "ip link set lo up && ip tuntap add hole mode tun && ip addr add 192.0.2.1/24 dev hole && ip link set hole up && "
NO_NAMES = DROP + "echo 'nameserver 192.0.2.53' > $HF_HOME/resolv && mount --bind $HF_HOME/resolv /etc/resolv.conf && "


def inside(script: str) -> list[str]:
    return ["unshare", "--net", "--mount", "sh", "-c", script + 'exec "$@"', "sh"]


def unshared() -> bool:
    return shutil.which("unshare") is not None and shutil.which("ip") is not None and not subprocess.run([*inside(DROP), "true"], capture_output=True).returncode


def full_backlog() -> tuple[socket.socket, list[socket.socket]]:
    """A socket that listens and has no place for another connection."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = []
    for _ in range(8):
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(listener.getsockname())
    return listener, waiting


@pytest.mark.soak
@pytest.mark.parametrize("hole", ["refused", "no such host", "full backlog", "silent", "half an answer", "dropped packets", "dead name server", "dead proxy"])
def test_every_black_hole_ends_in_time_and_a_cached_model_loads_at_once(hole, tmp_path):
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    with HubStandIn({NAME: bl.BERT}) as standin:
        answer(start(HF_ENDPOINT=standin.url, HF_HOME=str(full)))
    if hole in ("dropped packets", "dead name server") and not unshared():
        pytest.skip("no network namespace here")
    before, listener = [], None
    given = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    with HubStandIn({}, faults=[Fault("/", silent=60)] if hole == "silent" else [Fault("/", cut=20)]) as standin:
        if hole == "no such host":
            given["HF_ENDPOINT"] = "https://no-such-host.invalid"
        elif hole == "full backlog":
            listener, waiting = full_backlog()
            given["HF_ENDPOINT"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
        elif hole in ("silent", "half an answer"):
            given["HF_ENDPOINT"] = standin.url
            if hole == "half an answer":
                standin.faults[:] = [Fault("/", status=200, headers={"Content-Length": "1000"})]
        elif hole == "dropped packets":
            before, given["HF_ENDPOINT"] = inside(DROP), "http://192.0.2.99"
        elif hole == "dead name server":
            before, given["HF_ENDPOINT"] = inside(NO_NAMES), "http://hub.example.org"
        elif hole == "dead proxy":
            given = {"HF_ENDPOINT": "https://hub.example.org", "HTTPS_PROXY": "http://192.0.2.99:3128"}
        for _ in range(5):
            imports, seconds = check_unreachable(start(*before, HF_HOME=str(empty), **given))
            print(f"\n{hole}: imports {imports:.2f} s, bl.BERT {seconds:.2f} s", end="")
        asked = len(standin.requests)
        imports, seconds, said = answer(start(*before, HF_HOME=str(full), **given))
        print(f"; cached: {seconds:.2f} s")
        assert said.startswith(str(full)) and seconds < 1 and len(standin.requests) == asked
    if listener:
        for one in (listener, *waiting):
            one.close()


@pytest.mark.soak
def test_a_download_that_is_killed_at_random_arrives_in_the_end(tmp_path):
    """20 downloads, each killed again and again, at any time from the first import on."""
    import random

    rng, killed, again = random.Random(0), 0, 0
    for number in range(20):
        home = tmp_path / str(number)
        with HubStandIn({NAME: bl.BERT}, faults=[Fault("resolve", pause=0.003)]) as standin:
            while True:
                process = start(HF_ENDPOINT=standin.url, HF_HOME=str(home))
                try:
                    process.wait(timeout=rng.uniform(0.5, 3.5))
                except subprocess.TimeoutExpired:
                    process.kill()
                    killed += 1
                    process.communicate()
                    continue
                break
            folder = Path(answer(process)[2])
            again += standin.sent[WEIGHTS] - WHOLE
        assert (folder / WEIGHTS).read_bytes() == (checkpoints.bundled_folder("BERT") / WEIGHTS).read_bytes()
        shutil.rmtree(home)
    print(f"\n20 downloads, {killed} kills, {again:,} of {20 * WHOLE:,} bytes sent twice")


@pytest.mark.soak
def test_a_notebook_sees_a_bar_after_load_ext(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    cells = ["%load_ext bertlab", "import bertlab as bl\nbl.BERT"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    with HubStandIn({NAME: bl.BERT}) as standin:
        NotebookClient(notebook, timeout=120).execute(env=environment(HF_ENDPOINT=standin.url, HF_HOME=str(tmp_path)))
    seen = json.dumps(notebook.cells[1].outputs) + json.dumps(notebook.metadata.get("widgets", {}))
    print(seen[:2000])
    assert f"Downloading {NAME}, once" in seen and "100%" in seen
