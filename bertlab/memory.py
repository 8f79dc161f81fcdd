"""How much memory a kernel may use, and what happens when it wants more: a sentence in the cell, not a kernel that died.

A hub or a container gives a learner a limit, often 1 GB, and the system kills whatever goes beyond it. `guard` makes this process stop
asking in time: Linux then refuses the memory (RLIMIT_DATA, see getrlimit(2)), and Python and torch raise an error that `sentence` puts in words.
Without such a limit nothing is guarded. `return_early` has glibc return what was freed.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

MIB = 2**20
RESERVE = 24 * MIB  # bytes that stay free, for what the other processes need meanwhile
LEAST = 8 * MIB  # bytes that a kernel may always ask for, so that it can say what happened
LARGE = 1 * MIB  # bytes: a block this large gets pages of its own, which are returned when it is freed
GROUPS = Path("/sys/fs/cgroup")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def return_early() -> None:
    """Have large blocks of memory returned to the system when they are freed (glibc only; elsewhere nothing is done).

    Otherwise glibc takes a freed tensor as a sign to keep blocks of up to 32 MB (mallopt(3)), between which later ones leave holes, and a
    notebook that runs batches of many lengths holds on to them.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")):
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (OSError, AttributeError):  # another C library
            return
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, 2 * LARGE)


def limit() -> int | None:
    """The bytes that this process and its neighbours may use together, by control group or by a hub's MEM_LIMIT; None without a limit."""
    found = [most for most, _ in _groups()]
    if (hub := os.environ.get("MEM_LIMIT", "").strip()).isdecimal() and int(hub) > 0:  # JupyterHub sets it, in bytes
        found.append(int(hub))
    return min((most for most in found if most < _machine()), default=None)


def left() -> int | None:
    """The bytes that can still be had under the limit, files' pages that can be dropped included; None without a limit."""
    if (most := limit()) is None:
        return None
    room = [of - used for of, used in _groups()]
    if all(of > most for of, _ in _groups()):  # the hub's word, which no control group repeats
        room.append(most - _own())
    return max(0, min(room))


def _groups() -> Iterator[tuple[int, int]]:
    """(limit, bytes in use that cannot be dropped) of every control group that this process is in and that has a limit."""
    for folder, most, used in _group_files():
        try:
            bytes_allowed = int((folder / most).read_text())  # ValueError: "max"
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            prefix = "total_" if "total_active_file" in stat else ""
            files = sum(int(stat.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
            yield bytes_allowed, max(0, int((folder / used).read_text()) - files)
        except (OSError, ValueError):
            continue


def _group_files() -> Iterator[tuple[Path, str, str]]:
    """(folder, file with the limit, file with the use): this process's own group and those above it, versions 1 and 2."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = GROUPS / "memory" if controllers else GROUPS
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        own = top / path.lstrip("/")  # in a container this may be the path outside of it, and only `top` is there
        for folder in (own, *own.parents):
            if folder.is_relative_to(top):
                yield folder, *names


def _machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else sys.maxsize


def _own() -> int:
    """Bytes that this process uses."""
    import psutil

    return psutil.Process().memory_info().rss


# ---------------------------------------------------------------- the guard


def guard(_=None) -> None:
    """Let this process ask for no more than is left; to be called before each cell, for other processes use memory too.

    What a process may ask for counts what it never touches (a thread's stack), so the new limit is what it has asked for plus what is left.
    """
    if (free := left()) is None:
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = _asked_for() + max(LEAST, free - RESERVE)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _asked_for() -> int:
    """Bytes of data that this process has asked for, as RLIMIT_DATA counts them."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["VmData"].split()[0])


def unguard() -> None:
    """Lift the guard, so that what follows can be said and tidied up."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (hard := resource.getrlimit(resource.RLIMIT_DATA)[1], hard))


def is_lack(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that there is no memory; torch, threads and the loader of libraries have their own.

    >>> is_lack(MemoryError()), is_lack(ValueError("x"))
    (True, False)
    """
    said = ("allocate memory", "start new thread", "std::bad_alloc", "not enough memory")
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, (RuntimeError, OSError, ImportError)) and any(words in str(error) for words in said)):
            return True
        error = error.__cause__ or error.__context__
    return False


def sentence() -> str:
    """What a learner reads when there is no memory left."""
    most = limit()
    allowed = f"all that runs here may use {most / 2**30:.2f} GiB together, and this needed more" if most else "this needed more than the machine has left"
    return (
        f"There is not enough memory: {allowed}. Nothing is broken. Shut down the kernels of other notebooks (Kernel > Shut Down All Kernels), "
        "then run this notebook again from the top; in your own code use fewer texts at a time."
    )


def make_room(needed: int, what: str) -> None:
    """MemoryError, with what to do, if `needed` bytes do not fit into what is left."""
    free = left()
    if free is not None and needed > (room := max(0, free - RESERVE)):
        raise MemoryError(f"{what} needs {needed / MIB:,.0f} MiB, and {room / MIB:,.0f} MiB are left. {sentence()}")
