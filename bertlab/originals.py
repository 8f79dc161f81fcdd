"""`bertlab reset 02`: a notebook as it came, with the learner's own copy kept in the folder `mine` beside it.

Taught in notebooks/00_start_here.ipynb.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

KEPT = "mine"


def reset(folder: Path, numbers: Sequence[str], packaged: Path) -> list[tuple[str, Path | None]]:
    """Restore the notebooks whose names begin with one of `numbers`; none given: every one that was changed.

    folder    where the learner's notebooks are
    packaged  an installed wheel's notebooks. Where there are none, the originals are those that an installed bundle or a
              container keeps in folder/.originals, or in a clone git's
    Returns (name, where the learner's copy is kept) for each notebook that was restored; None if it was missing.
    Raises ValueError for a number without a notebook, and where there is no original.
    """
    kept_in = next((place for place in (packaged, folder / ".originals") if place.is_dir()), None)
    names = sorted(path.name for path in kept_in.glob("[0-9]*.ipynb")) if kept_in else _in_git(folder)
    if wrong := [number for number in numbers if not any(name.startswith(number) for name in names)]:
        raise ValueError(f"No notebook begins with {wrong[0]}; there are {', '.join(name[:2] for name in names)}.")
    chosen = [name for name in names if not numbers or any(name.startswith(number) for number in numbers)]
    restored = []
    for name in chosen:
        original = (kept_in / name).read_bytes() if kept_in else _git(folder, "show", f"HEAD:./{name}")
        mine = folder / name
        if mine.exists() and mine.read_bytes() == original:
            continue
        kept = _keep(mine) if mine.exists() else None
        partial = mine.with_suffix(".partial")
        partial.write_bytes(original)
        os.replace(partial, mine)
        restored.append((name, kept))
    return restored


def _keep(notebook: Path) -> Path:
    """Copy a notebook to the first free name in `mine`: 02_pooling-1.ipynb, 02_pooling-2.ipynb, ..."""
    folder = notebook.parent / KEPT
    folder.mkdir(exist_ok=True)
    number = 1
    while True:
        target = folder / f"{notebook.stem}-{number}.ipynb"
        try:
            with target.open("xb") as out, notebook.open("rb") as source:
                shutil.copyfileobj(source, out)
                out.flush()
                os.fsync(out.fileno())
            return target
        except FileExistsError:
            number += 1


def _in_git(folder: Path) -> list[str]:
    return [name for name in _git(folder, "ls-tree", "--name-only", "HEAD", "./").decode().splitlines() if name.endswith(".ipynb")]


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"The originals come from git, and it does not know them in {folder}: clone the repository again to have them.") from error
