"""What .github/SECURITY.md promises and no other test holds: who gets into a lab, and what the sources do not do."""

import ast
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq
from jupyter_client import BlockingKernelClient
from test_cli import get
from test_network import Watch, lab

from bertlab.server import TokenOrPassword

CHECKOUT = Path(__file__).resolve().parent.parent
SECURITY = CHECKOUT / ".github" / "SECURITY.md"
SOURCES = sorted((CHECKOUT / "bertlab").rglob("*.py"))


# ---------------------------------------------------------------- the page


def test_every_test_the_page_names_exists():
    named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", SECURITY.read_text(encoding="utf-8"))
    assert len(named) >= 10
    for file, test in named:
        assert f"\ndef {test}(" in (CHECKOUT / "tests" / f"{file}.py").read_text(encoding="utf-8"), (file, test)


def test_the_pages_files_exist():
    text = SECURITY.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (SECURITY.parent / target).exists(), target
    assert "](.github/SECURITY.md)" in (CHECKOUT / "README.md").read_text(encoding="utf-8")


def test_the_pins_are_audited_without_stopping_the_tests():
    workflow = (CHECKOUT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    (job,) = re.findall(r"^  audit-pins:\n(?:    .*\n)+", workflow, re.MULTILINE)
    assert "continue-on-error: true" in job and "pip-audit --strict" in job and "-r requirements.lock" in job
    assert workflow.count("audit-pins") == 1  # no job needs it


# ---------------------------------------------------------------- who gets into a lab


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(address, token, Watch) of a running `bertlab lab`."""
    watch = Watch(tmp_path_factory.mktemp("lab"))
    with lab(watch) as found:
        yield *found, watch


def answer(address: str, data: bytes | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
    """(status, where it ended up, headers) of a request with these headers; underscores stand for hyphens."""
    request = urllib.request.Request(address, data, {name.replace("_", "-"): value for name, value in headers.items()})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as got:
            return got.status, got.url, dict(got.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.url, dict(error.headers)


@pytest.mark.parametrize("path", ["api/contents", "api/kernels", "api/sessions", "api/terminals", "files/00_start_here.ipynb", "lab/api/settings"])
def test_without_the_token_there_is_nothing(served, path):
    address, token, _ = served
    for request in (f"{address}/{path}", f"{address}/{path}?token=", f"{address}/{path}?token={token[:-1]}"):
        status, ended, _ = answer(request)
        assert status == 403 or "/login?next=" in ended, request
    assert answer(f"{address}/{path}?token={token}")[0] == 200


def test_a_page_without_the_token_is_the_login_page(served):
    status, ended, _ = answer(f"{served[0]}/lab")
    assert status == 200 and "/login?next=" in ended


def test_another_name_for_this_machine_is_refused(served):
    """Against DNS rebinding: a stranger's page whose name now means 127.0.0.1."""
    address, token, _ = served
    port = address.rsplit(":")[-1]
    for host, expected in (("evil.example", 403), (f"evil.example:{port}", 403), (f"localhost:{port}", 200), (f"127.0.0.1:{port}", 200)):
        assert answer(f"{address}/api/contents?token={token}", Host=host)[0] == expected, host


def test_another_origin_cannot_use_a_learners_login(served):
    """A stranger's page in a browser that is logged in: the cookies come along, the token does not."""
    address, token, _ = served
    request = urllib.request.Request(f"{address}/lab?token={token}")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as page:
        cookies = dict(value.split(";")[0].split("=", 1) for name, value in page.headers.items() if name.lower() == "set-cookie")
    assert any(name.startswith("username-") for name in cookies) and "_xsrf" in cookies
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    own, foreign = {"Cookie": cookie, "Origin": address}, {"Cookie": cookie, "Origin": "http://evil.example"}
    before = len(get(address, token, "/api/kernels"))
    assert answer(f"{address}/api/contents", Cookie=cookie, Referer=f"{address}/lab")[0] == 200
    assert answer(f"{address}/api/kernels", b"{}", **own, X_XSRFToken=cookies["_xsrf"])[0] == 201
    for stranger in ({"Cookie": cookie}, foreign, {**foreign, "X_XSRFToken": cookies["_xsrf"]}):  # the first as a form on another page sends it
        assert answer(f"{address}/api/kernels", b"{}", **stranger)[0] in (403, 404)
    assert len(get(address, token, "/api/kernels")) == before + 1  # its own
    assert open_socket(address, own) == 101 and open_socket(address, foreign) == 403
    shown = answer(f"{address}/api/contents", **foreign)  # what comes back, that page's script may not read
    assert "Access-Control-Allow-Origin" not in shown[2]


def start_kernel(address: str, token: str) -> str:
    """A kernel's id."""
    request = urllib.request.Request(f"{address}/api/kernels", b"{}", {"Authorization": f"token {token}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as got:
        return json.load(got)["id"]


def open_socket(address: str, headers: dict[str, str]) -> int:
    """The status with which a WebSocket is opened or refused."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "eHh4eHh4eHh4eHh4eHh4eA=="}
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    connection.request("GET", "/api/events/subscribe", headers={**headers, **upgrade})
    with contextlib.closing(connection):
        return connection.getresponse().status


def test_other_accounts_of_the_machine_cannot_listen_to_a_kernel(served):
    """Its ports are open to every account; without the key in its connection file, which is the learner's alone, they are silent."""
    address, token, watch = served
    kernel = start_kernel(address, token)
    (file,) = Path(watch.environment["JUPYTER_RUNTIME_DIR"]).glob(f"kernel-{kernel}.json")
    assert os.name == "nt" or not file.stat().st_mode & 0o077
    client = BlockingKernelClient(connection_file=str(file))
    client.load_connection_file()
    client.start_channels()
    spies = [zmq.Context.instance().socket(zmq.SUB) for _ in range(2)]
    try:
        if client.curve_publickey:  # else the other one hears as much
            spies[1].curve_publickey, spies[1].curve_secretkey = zmq.curve_keypair()
            spies[1].curve_serverkey = client.curve_publickey
        for spy in spies:
            spy.subscribe(b"")
            spy.connect(f"tcp://{client.ip}:{client.iopub_port}")
        for _ in range(60):  # the kernel has to start, and a new subscription takes a moment to arrive
            client.execute("print('between us')")
            if spies[1].poll(2000):
                break
        assert spies[1].poll(0) and not spies[0].poll(1000)
    finally:
        client.stop_channels()
        for spy in spies:
            spy.close(0)


OPEN_DOORS = [  # options, environment
    (["--ip=0.0.0.0", "--IdentityProvider.token="], {}),
    (["--config=open.json"], {}),
    (["--ip=0.0.0.0", "--IdentityProvider.token", ""], {}),
    (["--ServerApp.ip=*", "--ServerApp.token="], {}),
    (["--IdentityProvider.token=", "--ServerApp.password="], {}),
    (["--ip=::", "--IdentityProvider.token=", "--PasswordIdentityProvider.hashed_password="], {}),
    (["--ip=0.0.0.0"], {"JUPYTER_TOKEN": "", "JUPYTER_TOKEN_FILE": "empty"}),
]


@pytest.mark.parametrize("doors", [pytest.param(OPEN_DOORS[:2], id="two"), pytest.param(OPEN_DOORS[2:], id="more", marks=pytest.mark.soak)])
def test_no_lab_opens_without_a_token_or_a_password(tmp_path, doors):
    """However the token came to be empty; several at once, for each takes seconds to start."""
    (tmp_path / "empty").touch()
    (tmp_path / "open.json").write_text('{"IdentityProvider": {"token": ""}}')
    environment = Watch(tmp_path).environment
    labs = []
    try:
        for options, variables in doors:
            command = [sys.executable, "-m", "bertlab.cli", "lab", "--no-browser", "--port=0", *options]
            how = {"cwd": tmp_path, "env": {**environment, **variables}, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            labs.append(subprocess.Popen(command, **how))
        for (options, variables), one in zip(doors, labs):
            said = one.communicate(timeout=120)[0]
            assert one.returncode == 2 and "bertlab: this lab would ask for neither a token nor a password" in said, (options, variables, said)
            assert "is running at" not in said, said
    finally:
        for one in labs:
            one.kill()


@pytest.mark.parametrize(
    ("given", "opens"),
    [({}, True), ({"hashed_password": "argon2:x"}, True), ({"token": "", "hashed_password": "argon2:x"}, True), ({"token": ""}, False)],
)
def test_a_token_or_a_password_will_do(monkeypatch, given, opens):
    monkeypatch.setenv("JUPYTER_TOKEN", "")  # Jupyter makes a token then
    monkeypatch.delenv("JUPYTER_TOKEN_FILE", raising=False)
    door = TokenOrPassword(**given)
    assert len(door.token) >= 32 or given
    with contextlib.nullcontext() if opens else pytest.raises(SystemExit):
        door.validate_security(SimpleNamespace(ip="127.0.0.1", log=door.log))


# ---------------------------------------------------------------- the sources

RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "__import__", "os.system", "os.popen", "tempfile.mktemp", "yaml.load", "yaml.unsafe_load", "torch.hub.load"}
AUTO = re.compile(r"(\w+\.)*(Auto\w+|kind)\.from_pretrained")


def faults(source: str) -> list[str]:
    """What a source does that could run somebody else's code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in RUNS_CODE]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in RUNS_CODE:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            found += [name] if name in FORBIDDEN_CALLS else []
            found += [f"{option}=True" for option in ("shell", "allow_pickle", "trust_remote_code") if given.get(option, "False") != "False"]
            found += [name] if name == "torch.load" and given.get("weights_only") != "True" else []
            found += [name] if AUTO.fullmatch(name) and given.get("trust_remote_code") != "False" else []
            found += [name] if name.endswith(".extractall") and "filter" not in given else []
            found += [f"{option}=False" for option in ("verify", "weights_only") if given.get(option) == "False"]
    return found


def test_the_sources_run_no_text_and_open_no_pickle():
    assert len(SOURCES) > 30
    found = {str(path.relative_to(CHECKOUT)): faults(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert not {path: what for path, what in found.items() if what}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "yaml.load(file)",
        "archive.extractall(folder)",
        "AutoModel.from_pretrained(folder)",
        "transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)",
        "requests.get(address, verify=False)",
    ],
)
def test_such_a_source_would_be_found(source):
    assert faults(source)


def test_an_honest_source_is_not_found():
    assert not faults("model.eval()\ntorch.load(file, weights_only=True)\nsubprocess.run(['git'])\nAutoModel.from_pretrained(f, trust_remote_code=False)")
