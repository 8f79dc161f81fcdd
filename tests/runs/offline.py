"""The tests where there is no network at all: a network namespace with loopback and no route. Linux only.

    python tests/runs/offline.py                          the whole everyday suite, JupyterLab in Chromium included
    python tests/runs/offline.py tests/test_cli.py -q     whatever pytest takes

Needs root, or a system that lets a user make namespaces (`unshare -rn true` says so). BERTLAB_BROWSER=required is set, so
that a missing browser is a failure. The exit status is pytest's; 3 if the namespace cannot be made or has a way out.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
OUTSIDE = [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")]  # addresses for documentation, RFC 5737 and 3849


def main(arguments: list[str]) -> int:
    """Go into a namespace of its own; there, run pytest."""
    if arguments[:1] != ["--inside"]:
        if not (how := namespace_command()):
            print("offline.py: this system allows no network namespace: run it as root on Linux, or allow `unshare -rn`.", file=sys.stderr)
            return 3
        os.execvp(how[0], [*how, sys.executable, __file__, "--inside", os.readlink("/proc/self/ns/net"), *arguments])
    _, outer, *arguments = arguments
    if outer == os.readlink("/proc/self/ns/net"):
        print("offline.py: still in the machine's own network.", file=sys.stderr)
        return 3
    loopback_up()
    if ways := ways_out():
        print(f"offline.py: the namespace has a way out: {'; '.join(ways)}.", file=sys.stderr)
        return 3
    print("No network: loopback only, no route.", flush=True)
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=CHECKOUT, env={"BERTLAB_BROWSER": "required", **environment, "PYTHONPATH": path})


def namespace_command() -> list[str] | None:
    """`unshare` as this user may call it; None if neither way is allowed."""
    unshare = shutil.which("unshare")
    ways = [[unshare, "-n"], [unshare, "-rn"]] if unshare else []
    return next((way for way in ways if subprocess.run([*way, "true"], capture_output=True).returncode == 0), None)


def loopback_up() -> None:
    """`ip link set lo up`, for machines without ip."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack_from("h", request, 16)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def ways_out() -> list[str]:
    """Addresses outside that do not answer "unreachable" at once; empty if all is shut."""
    found = []
    for family, address in OUTSIDE:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as outside:
                outside.settimeout(3)
                code = outside.connect_ex((address, 443))
        except OSError as error:
            code = error.errno
        if code not in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            found.append(f"a route to {address} ({os.strerror(code)})")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
