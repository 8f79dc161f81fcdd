"""A stand-in for the Hub on loopback: enough of its API for from_pretrained and snapshot_download.

    with HubStandIn({"bert-base-uncased": folder}) as url: ...    # HF_ENDPOINT=url

Requests are kept in `.requests`, so that a test can see what was asked.
"""

import hashlib
import json
import urllib.parse
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@cache
def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


class HubStandIn:
    def __init__(self, models: dict[str, str | Path]):
        self.models = {name: Path(folder) for name, folder in models.items()}
        self.requests: list[str] = []
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                standin.answer(self, body=True)

            def do_HEAD(self):
                standin.answer(self, body=False)

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

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(request.path).path).strip("/")
        self.requests.append(f"{request.command} /{path}")
        for name, folder in self.models.items():
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            if path.startswith(f"api/models/{name}/tree/"):
                entries = [{"type": "file", "path": p.relative_to(folder).as_posix(), "size": p.stat().st_size, "oid": _sha256(p)[:40]} for p in files]
                return self.send(request, json.dumps(entries).encode(), body)
            if path == f"api/models/{name}" or path.startswith(f"api/models/{name}/revision/"):
                info = {"id": name, "modelId": name, "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "siblings": [{"rfilename": p.relative_to(folder).as_posix()} for p in files]}
                return self.send(request, json.dumps(info).encode(), body)
            if path.startswith(f"{name}/resolve/"):
                file = folder / path.removeprefix(f"{name}/resolve/").partition("/")[2]
                if file in files:
                    return self.send_file(request, file, body)
                return self.fail(request, "EntryNotFound")
        self.fail(request, "RepoNotFound")

    def send_file(self, request: BaseHTTPRequestHandler, file: Path, body: bool) -> None:
        content, first = file.read_bytes(), 0
        if wanted := request.headers.get("Range", "").removeprefix("bytes="):
            first = int(wanted.split("-")[0])
        self.send(request, content[first:], body, status=206 if first else 200, ETag=f'"{_sha256(file)}"', **{"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"})

    def send(self, request: BaseHTTPRequestHandler, content: bytes, body: bool, status: int = 200, **headers: str) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            request.wfile.write(content)

    def fail(self, request: BaseHTTPRequestHandler, code: str) -> None:
        self.send(request, b"", body=False, status=404, **{"X-Error-Code": code, "X-Error-Message": code})
