"""A stand-in for the Hub on loopback: enough of its API for from_pretrained, snapshot_download and load_dataset.

    with HubStandIn({"bert-base-uncased": folder}) as hub: ...    # HF_ENDPOINT=hub.url
    HubStandIn(datasets={"owner/name": {"main": folder, "refs/convert/parquet": other}})

A repository is a folder (its branch main) or a folder for each branch. What the notebooks ask for is made by
tests/hub_contents.py. Requests are kept in `.requests`, so that a test can see what was asked.
"""

import hashlib
import json
import urllib.parse
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

Repository = str | Path | dict[str, str | Path]


@cache
def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def commit_of(name: str, branch: str) -> str:
    return hashlib.sha1(f"{name}@{branch}".encode()).hexdigest()


class HubStandIn:
    def __init__(self, models: dict[str, Repository] | None = None, datasets: dict[str, Repository] | None = None):
        self.repositories: dict[tuple[str, str], dict[str, Path]] = {}  # (kind, name) -> {branch or commit: folder}
        for kind, repositories in ("models", models or {}), ("datasets", datasets or {}):
            for name, given in repositories.items():
                branches = given if isinstance(given, dict) else {"main": given}
                self.repositories[kind, name] = {key: Path(folder) for branch, folder in branches.items() for key in (branch, commit_of(name, branch))}
        self.requests: list[str] = []
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                standin.answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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
                files = [{"rfilename": p.relative_to(folder).as_posix()} for p in sorted(folder.rglob("*")) if p.is_file()]
                return self.send_json(request, {"id": name, "sha": commit_of(name, branch), "private": False, "tags": [], "downloads": 0, "siblings": files})
        self.fail(request, "RepoNotFound")

    def send_json(self, request: BaseHTTPRequestHandler, content) -> None:
        self.send(request, json.dumps(content).encode())

    def send_file(self, request: BaseHTTPRequestHandler, file: Path, commit: str) -> None:
        content, first = file.read_bytes(), 0
        if wanted := request.headers.get("Range", "").removeprefix("bytes="):
            first = int(wanted.split("-")[0])
        self.send(request, content[first:], 206 if first else 200, ETag=f'"{_sha256(file)}"', **{"X-Repo-Commit": commit, "Accept-Ranges": "bytes"})

    def send(self, request: BaseHTTPRequestHandler, content: bytes, status: int = 200, **headers: str) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    def fail(self, request: BaseHTTPRequestHandler, code: str) -> None:
        self.send(request, b"", status=404, **{"X-Error-Code": code, "X-Error-Message": code})


def entry(path: Path, folder: Path) -> dict:
    """What the Hub says about a file or folder of a repository."""
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0}
    return {"type": "file", "path": name, "oid": _sha256(path)[:40], "size": path.stat().st_size}
