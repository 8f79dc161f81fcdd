"""A stand-in for the Hub on loopback: enough of its API for from_pretrained, snapshot_download and load_dataset.

    with HubStandIn({"bert-base-uncased": folder}) as hub: ...    # HF_ENDPOINT=hub.url
    HubStandIn(datasets={"owner/name": {"main": folder, "refs/convert/parquet": other}})

A repository is a folder (its branch main) or a folder for each branch. What the notebooks ask for is made by
tests/hub_contents.py. Requests are kept in `.requests`, so that a test can see what was asked, and the bytes of every file
that left in `.sent`. What goes wrong is given beforehand:

    HubStandIn({"m": folder}, faults=[Fault("model.safetensors", cut=1_000_000, times=1), Fault("/api/", status=429, headers={"Retry-After": "7"})])
"""

import hashlib
import json
import time
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

Repository = str | Path | dict[str, str | Path]
BLOCK = 1 << 16  # bytes sent at once


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path contains `where` (HEAD requests are spared).

    status    this answer instead of the right one, with `headers`
    cut       so many bytes of the body, then the connection ends
    damaged   as many bytes as announced, but others
    pause     seconds before each block of the body
    silent    seconds without any answer, then the connection ends
    no_range  the whole file, whatever part of it was asked for
    """

    where: str
    times: float = float("inf")
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    damaged: bool = False
    pause: float = 0.0
    silent: float = 0.0
    no_range: bool = False


@cache
def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def commit_of(name: str, branch: str) -> str:
    return hashlib.sha1(f"{name}@{branch}".encode()).hexdigest()


class HubStandIn:
    def __init__(self, models: dict[str, Repository] | None = None, datasets: dict[str, Repository] | None = None, faults: Sequence[Fault] = ()):
        self.repositories: dict[tuple[str, str], dict[str, Path]] = {}  # (kind, name) -> {branch or commit: folder}
        for kind, repositories in ("models", models or {}), ("datasets", datasets or {}):
            for name, given in repositories.items():
                branches = given if isinstance(given, dict) else {"main": given}
                self.repositories[kind, name] = {key: Path(folder) for branch, folder in branches.items() for key in (branch, commit_of(name, branch))}
        self.requests: list[str] = []
        self.sent: Counter[str] = Counter()  # file -> bytes
        self.faults = list(faults)
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                standin.answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                """Whoever asked was killed: no traceback for that."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "HubStandIn":
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        address = urllib.parse.urlsplit(request.path)
        path, query = address.path.strip("/"), urllib.parse.parse_qs(address.query)
        posted = urllib.parse.parse_qs(request.rfile.read(int(request.headers.get("Content-Length") or 0)).decode())
        self.requests.append(f"{request.command} /{urllib.parse.unquote(path)}")
        fault = request.fault = self._fault_of(request)
        if fault.silent:
            time.sleep(fault.silent)
            request.close_connection = True
            return None
        if fault.status:
            return self.send(request, b"", fault.status, **fault.headers)
        for (kind, name), folders in self.repositories.items():
            api, resolve = f"api/{kind}/{name}", f"{name}/resolve" if kind == "models" else f"datasets/{name}/resolve"
            if path == api:
                path += "/revision/main"
            if not path.startswith((f"{api}/", f"{resolve}/")):
                continue
            action = "resolve" if path.startswith(resolve) else path.removeprefix(f"{api}/").split("/")[0]
            rest = path.removeprefix(f"{resolve if action == 'resolve' else f'{api}/{action}'}/")
            revision, _, inside = (urllib.parse.unquote(part) for part in rest.partition("/"))  # a branch's slashes are quoted
            if revision not in folders:
                return self.fail(request, "RevisionNotFound")
            folder = folders[revision]
            if action == "resolve":
                if not (folder / inside).is_file():
                    return self.fail(request, "EntryNotFound")
                branch = next(b for b, f in folders.items() if f == folder)
                return self.send_file(request, folder / inside, commit_of(name, branch))
            if action == "tree":
                if not (folder / inside).is_dir():
                    return self.fail(request, "EntryNotFound")
                below = (folder / inside).rglob("*") if query.get("recursive", [""])[0].lower() == "true" else (folder / inside).iterdir()
                return self.send_json(request, [entry(p, folder) for p in sorted(below)])
            if action == "paths-info":
                return self.send_json(request, [entry(folder / p, folder) for p in posted.get("paths", []) if (folder / p).exists()])
            if action == "revision":
                branch = next(b for b, f in folders.items() if f == folder)
                blobs = query.get("blobs", [""])[0].lower() == "true"
                files = [sibling(p, folder, blobs) for p in sorted(folder.rglob("*")) if p.is_file()]
                return self.send_json(request, {"id": name, "sha": commit_of(name, branch), "private": False, "tags": [], "downloads": 0, "siblings": files})
        self.fail(request, "RepoNotFound")

    def send_json(self, request: BaseHTTPRequestHandler, content) -> None:
        self.send(request, json.dumps(content).encode())

    def _fault_of(self, request: BaseHTTPRequestHandler) -> Fault:
        fault = next((f for f in self.faults if f.times > 0 and f.where in request.path and request.command != "HEAD"), Fault(""))
        fault.times -= 1
        return fault

    def send_file(self, request: BaseHTTPRequestHandler, file: Path, commit: str) -> None:
        content, first = file.read_bytes(), 0
        if (wanted := request.headers.get("Range", "").removeprefix("bytes=")) and not request.fault.no_range:
            first = int(wanted.split("-")[0])
        if request.fault.damaged:
            content = bytes(255 - byte for byte in content)
        self.send(request, content[first:], 206 if first else 200, ETag=f'"{_sha256(file)}"', **{"X-Repo-Commit": commit, "Accept-Ranges": "bytes"})

    def send(self, request: BaseHTTPRequestHandler, content: bytes, status: int = 200, **headers: str) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        fault, name = request.fault, urllib.parse.urlsplit(request.path).path.rsplit("/", 1)[-1]
        for start in range(0, len(content[: fault.cut]), BLOCK):
            time.sleep(fault.pause)
            block = content[: fault.cut][start : start + BLOCK]
            try:
                request.wfile.write(block)
            except OSError:  # whoever asked is gone
                request.close_connection = True
                return
            self.sent[name] += len(block)
        if fault.cut is not None:
            request.close_connection = True

    def fail(self, request: BaseHTTPRequestHandler, code: str) -> None:
        self.send(request, b"", status=404, **{"X-Error-Code": code, "X-Error-Message": code})


def entry(path: Path, folder: Path) -> dict:
    """What the Hub says about a file or folder of a repository."""
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0}
    return {"type": "file", "path": name, "oid": _sha256(path)[:40], "size": path.stat().st_size}


def sibling(path: Path, folder: Path, blobs: bool) -> dict:
    """A file as the list of a repository's files names it; with its size and hash if they were asked for (large files lie in LFS there)."""
    name = {"rfilename": path.relative_to(folder).as_posix()}
    if not blobs:
        return name
    size = path.stat().st_size
    if path.suffix == ".safetensors":
        return name | {"size": size, "blobId": "0" * 40, "lfs": {"sha256": _sha256(path), "size": size, "pointerSize": 134}}
    return name | {"size": size, "blobId": hashlib.sha1(f"blob {size}\0".encode() + path.read_bytes()).hexdigest()}
