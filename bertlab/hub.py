"""A model of the Hugging Face Hub: from the cache at once, else downloaded once, verified, and gone on with where it was cut off.

The files go into huggingface_hub's own cache, in its layout (blobs, snapshots, refs), so every other program finds them there.
Its `snapshot_download` is not used: it waits for minutes for a Hub that does not answer, and begins the file of a process that was killed anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TypeVar

from .checkpoint_files import CheckpointError, remembered

T = TypeVar("T")
PATIENCE = 3.5  # seconds that the Hub has for its first answer
STALL = 10.0  # seconds without a byte, after which a connection counts as cut
TRIES = 4  # connections for one file
PAUSE = 1.0  # seconds between them
SMALL = 10_000_000  # bytes: files up to this size are hashed whenever they are read from the cache
WANTED = ("*.json", "*.txt", "*.safetensors", "*.model")
UNWANTED = ("onnx/*", "openvino/*")


@dataclass(frozen=True)
class Listed:
    """A file of a model: its name, its bytes, and its hash, which is SHA-256 (64 digits) or git's SHA-1 (40)."""

    name: str
    size: int
    digest: str


def forbidden() -> bool:
    """Whether HF_HUB_OFFLINE says that the Hub is not to be asked; huggingface_hub reads it once, when it is imported."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def reachable(timeout: float = 3.0) -> bool:
    """Whether the Hub (or the mirror in HF_ENDPOINT, also through a proxy) answers within `timeout` seconds."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        return within(timeout, lambda: get_session().head(constants.ENDPOINT, timeout=timeout)) is not None
    except Exception:  # whatever the client calls it
        return False


def within(seconds: float, work: Callable[[], T]) -> T | None:
    """What `work` returns or raises, or None after `seconds`: a name server that never answers has no time-out of its own.

    >>> within(5, lambda: 7), within(0.01, lambda: time.sleep(1))
    (7, None)
    """
    answer: list = []

    def run() -> None:
        try:
            answer.append((work(), None))
        except Exception as error:
            answer.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answer:
        return None
    result, error = answer[0]
    if error is not None:
        raise error
    return result


# ---------------------------------------------------------------- the cache


def cached(name: str) -> Path | None:
    """The model's folder in the cache, if it is there as a whole; no request is made."""
    storage = _storage(name)
    try:
        commit = (storage / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    folder = storage / "snapshots" / commit
    if not re.fullmatch("[0-9a-f]{40}", commit) or not folder.is_dir():
        return None
    try:
        _check_snapshot(str(folder))
    except OSError:
        return None
    return folder


@remembered
def _check_snapshot(folder: str) -> None:
    """OSError unless every file of a snapshot is there and whole."""
    snapshot = Path(folder)
    for file in _listing(snapshot.parent.parent, snapshot):
        if not _is_whole(snapshot / file.name, file, hash_up_to=SMALL):
            raise OSError(f"{file.name} is missing or damaged")


def _storage(name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{name.replace('/', '--')}"


def _listing(storage: Path, folder: Path) -> list[Listed]:
    """The files of a snapshot: as they were listed when it was downloaded here, else those that are there, by their blobs' names."""
    try:
        return [Listed(**row) for row in json.loads((storage / "bertlab" / f"{folder.name}.json").read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        files = [(file, file.resolve()) for file in folder.rglob("*") if file.is_file() and file.is_symlink()]
        return [Listed(file.relative_to(folder).as_posix(), blob.stat().st_size, blob.name) for file, blob in files if _is_digest(blob.name)]


def _is_digest(name: str) -> bool:
    return re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", name) is not None


def _is_whole(file: Path, listed: Listed, hash_up_to: float = float("inf")) -> bool:
    """Whether a file is there with its size and, up to so many bytes, with its hash."""
    return file.is_file() and file.stat().st_size == listed.size and (listed.size > hash_up_to or digest_of(file, listed.digest) == listed.digest)


def digest_of(file: Path, like: str) -> str:
    """The hash of a file, of the kind of `like`: SHA-256, or git's SHA-1 of "blob <size>", a zero byte and the content."""
    with open(file, "rb") as stream:
        if len(like) == 64:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        git = hashlib.sha1(f"blob {os.fstat(stream.fileno()).st_size}\0".encode())
        while block := stream.read(1 << 20):
            git.update(block)
    return git.hexdigest()


# ---------------------------------------------------------------- the download


def download(name: str, advice: str) -> Path:
    """Fetch a model into the cache and return its folder; what is there already and whole is not fetched again.

    advice  what else to do, the end of every message
    Raises CheckpointError, one sentence. The next call goes on where this one stopped; another process waits for its turn.
    """
    commit, files = _ask(name, advice)
    storage = _storage(name)
    folder = storage / "snapshots" / commit
    try:
        with _alone(storage, name):
            if cached(name) == folder:  # another process has just fetched it
                return folder
            _fetch_all(name, commit, files, storage, folder)
    except OSError as error:
        raise CheckpointError(f"{name} could not be downloaded ({_said(error)}): {_what_to_do(error)}{advice}") from None
    return folder


def _ask(name: str, advice: str) -> tuple[str, list[Listed]]:
    """The model's commit and its files, as the Hub lists them; it has `PATIENCE` seconds to answer."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    cannot = f"{name} is not on this machine and the Hub cannot be reached: connect to the network, or {advice}"
    try:
        info = within(PATIENCE, lambda: HfApi().model_info(name, revision="main", files_metadata=True, timeout=PATIENCE))
    except GatedRepoError:
        raise CheckpointError(f"{name} is only for those who accepted its terms: do so on the Hub and log in (`hf auth login`), or {advice}") from None
    except RepositoryNotFoundError:
        raise CheckpointError(f"The Hub has no model called {name}: check the spelling, or {advice}") from None
    except HfHubHTTPError as error:
        raise CheckpointError(f"{name} could not be downloaded ({_said(error)}): {_what_to_do(error)}{advice}") from None
    except OfflineModeIsEnabled:
        raise CheckpointError(f"{cannot} HF_HUB_OFFLINE is set.") from None
    except Exception:  # the client's own errors: no network, no name, no answer in time, or an answer that makes no sense
        raise CheckpointError(cannot) from None
    if info is None:
        raise CheckpointError(cannot)
    files = [
        Listed(file.rfilename, file.size, file.lfs.sha256 if file.lfs else file.blob_id)
        for file in info.siblings or ()
        if any(fnmatch(file.rfilename, p) for p in WANTED) and not any(fnmatch(file.rfilename, p) for p in UNWANTED)
    ]
    if not any(file.name.endswith(".safetensors") for file in files):
        raise CheckpointError(f"{name} on the Hub has no safetensors weights, and bertlab reads no others: choose another model, or {advice}")
    if not re.fullmatch("[0-9a-f]{40}", info.sha or "") or not all(map(_is_sound, files)):
        raise CheckpointError(f"What the Hub says about {name} makes no sense: check HF_ENDPOINT, or {advice}")
    return info.sha, files


def _is_sound(file: Listed) -> bool:
    parts = PurePosixPath(file.name).parts
    inside = bool(parts) and not file.name.startswith("/") and ".." not in parts and "\\" not in file.name and ":" not in file.name
    return inside and isinstance(file.size, int) and file.size >= 0 and isinstance(file.digest, str) and _is_digest(file.digest)


@contextlib.contextmanager
def _alone(storage: Path, name: str) -> Iterator[None]:
    """One process at a time; whoever waits is told so. The lock of a process that was killed is free."""
    from huggingface_hub.utils import WeakFileLock

    lock = storage.parent / ".locks" / storage.name / "bertlab.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(lock, timeout=1))
        except TimeoutError:
            print(f"Another program is downloading {name}: waiting for it.", file=sys.stderr)
            stack.enter_context(WeakFileLock(lock))
        yield


def _fetch_all(name: str, commit: str, files: list[Listed], storage: Path, folder: Path) -> None:
    """Every file into blobs/, then the links, the list of them, and at last the reference that makes the snapshot visible."""
    from huggingface_hub import hf_hub_url

    (storage / "blobs").mkdir(parents=True, exist_ok=True)
    missing = {file.digest: file for file in files if not _is_whole(folder / file.name, file) and not _is_whole(storage / "blobs" / file.digest, file)}
    total = sum(file.size for file in missing.values())
    begun = sum(min(file.size, _size(_partial(storage, file))) for file in missing.values())
    if (free := shutil.disk_usage(storage).free) < total - begun:
        raise OSError(errno.ENOSPC, f"it needs {(total - begun) / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free in {storage.parent}")
    with _bar(name, total, begun) as bar:
        for file in missing.values():
            url = hf_hub_url(name, file.name, revision=commit)
            _fetch(file, url, _partial(storage, file), bar)
            os.replace(_partial(storage, file), storage / "blobs" / file.digest)
    for file in files:
        if not _is_whole(folder / file.name, file, hash_up_to=SMALL) or file.digest in missing:
            _link(storage / "blobs" / file.digest, folder / file.name)
    _write(storage / "bertlab" / f"{commit}.json", json.dumps([vars(file) for file in files]))
    _write(storage / "refs" / "main", commit)


def _partial(storage: Path, file: Listed) -> Path:
    return storage / "blobs" / f"{file.digest}.incomplete"


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _bar(name: str, total: int, begun: int):
    """A progress bar in a terminal and in a notebook, also after %load_ext bertlab, which hides all others; elsewhere one line."""
    from tqdm.auto import tqdm

    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    if total and not watched:
        print(f"Downloading {name}, {(total - begun) / 1e6:.0f} MB, once.", file=sys.stderr)
    return tqdm(total=total, initial=begun, desc=f"Downloading {name}, once", unit="B", unit_scale=True, disable=not (total and watched))


def _fetch(file: Listed, url: str, partial: Path, bar) -> None:
    """Fetch the rest of a file, with a new connection where one is cut; OSError if it is not what was announced."""
    if _size(partial) > file.size:
        partial.unlink()
    reason = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE)
        try:
            if not partial.exists() or _size(partial) < file.size:
                _receive(url, partial, file.size, bar)
            if _size(partial) >= file.size:
                break
            reason = "the connection was cut"
        except OSError:  # the disk, or a status that says no
            raise
        except Exception as error:  # the client's own errors: the connection was cut, or nothing came for a while
            reason = f"the connection was cut: {_said(error)}"
    else:
        raise OSError(f"{reason}; {_size(partial) / 1e6:.0f} of {file.size / 1e6:.0f} MB of {file.name} are here, and the next try goes on from there")
    if not _is_whole(partial, file):
        partial.unlink()
        raise OSError(f"{file.name} arrived damaged: its hash is not the one that the Hub announced")


def _receive(url: str, partial: Path, size: int, bar) -> None:
    """One connection: append what is still missing, at most `size` bytes in all."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    have = _size(partial)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with get_session().stream("GET", url, headers=headers, timeout=STALL) as response, open(partial, "ab") as out:
        hf_raise_for_status(response)
        if have and response.status_code != 206:  # all of it is sent again
            out.truncate(0)
            bar.update(-have)
            have = 0
        for block in response.iter_bytes():
            out.write(block)
            out.flush()  # a process that is killed keeps what has come
            bar.update(len(block))
            have += len(block)
            if have > size:
                return


def _link(blob: Path, pointer: Path) -> None:
    """Put a file of the snapshot in its place: a relative link, or a copy where the system has no links."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.unlink(missing_ok=True)
    try:
        os.symlink(os.path.relpath(blob, pointer.parent), pointer)
    except OSError:
        shutil.copyfile(blob, pointer)


def _write(file: Path, text: str) -> None:
    """All of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, file)


def _said(error: Exception) -> str:
    """The first line of an error's message, in words for the statuses that the Hub is known to send."""
    response = getattr(error, "response", None)
    if response is not None and response.status_code == 429:
        return "the Hub is asked too often from here"
    if response is not None:
        return f"the Hub answered with status {response.status_code}"
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or type(error).__name__
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _what_to_do(error: OSError) -> str:
    response = getattr(error, "response", None)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space, set HF_HOME to a folder on another disk, or "
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return "set HF_HOME to a folder that you may write to, or "
    if response is not None and response.status_code == 429:
        pause = response.headers.get("Retry-After", "")
        return f"wait {pause if pause.isdigit() else 60} seconds and try again, or "
    return "try again, or "
