"""What a learner has done, in a small file of their own: it survives kernels, and nothing sends it anywhere.

The file is ~/.bertlab/progress.jsonl, or what BERTLAB_PROGRESS names: a line an event, only ever added to, so that two
notebooks at once lose nothing. Delete the file to begin anew.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from pathlib import Path

EVENTS = ("passed", "hint", "solution")
_unsaved: list[dict[str, str]] = []  # where the file cannot be written: kept until the kernel ends


def file() -> Path:
    """Where the record is kept."""
    chosen = os.environ.get("BERTLAB_PROGRESS", "").strip()
    return Path(chosen).expanduser() if chosen else Path.home() / ".bertlab" / "progress.jsonl"


def add(number: str, event: str) -> None:
    """Note that an exercise was passed, a hint read or the solution looked at; warns if it cannot be kept."""
    line = {"exercise": number, "event": event}
    path = file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
        with path.open("ab") as out:  # one write: lines of two kernels do not mix
            out.write(("" if whole else "\n").encode() + json.dumps(line).encode() + b"\n")
    except OSError as error:
        _unsaved.append(line)
        warnings.warn(f"Your progress cannot be saved in {path} ({error.strerror}): it lasts until the kernel ends. Name another file in BERTLAB_PROGRESS.", stacklevel=3)


def counts() -> Counter[tuple[str, str]]:
    """How often each (exercise, event) was noted; lines that cannot be read are left out.

    >>> counts()["00.0", "passed"]
    0
    """
    try:
        lines = file().read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = Counter((line["exercise"], line["event"]) for line in _unsaved)
    for line in lines:
        try:
            entry = json.loads(line)
            found[entry["exercise"], entry["event"]] += 1
        except (ValueError, KeyError, TypeError):
            continue
    return found
