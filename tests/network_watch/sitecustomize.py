"""Writes down every attempt of a Python process to reach another machine: Python imports this file by itself, see tests/test_network.py.

This folder on PYTHONPATH and a file in BERTLAB_NETWORK_LOG are enough, for the processes that are started from there too. A line is
JSON, [event, target, program]: ["watched", "", program] for each process at its start, then one for each connection, datagram
or name look-up that leaves the machine. Nothing is held back. Sockets that compiled code opens by itself are not seen.
"""

import ipaddress
import json
import os
import sys

# event of the standard library's audit table -> which argument holds the target
EVENTS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
    "socket.getnameinfo": 0,
}


def is_here(target) -> bool:
    """Whether a host, or a (host, port, ...) address, is this machine; so is a Unix socket, and a datagram without an address."""
    host = target[0] if isinstance(target, tuple) else target
    if host is None or (isinstance(target, (str, bytes)) and os.fsdecode(target)[:1] in ("/", "\0")):
        return True
    name = (os.fsdecode(host) if isinstance(host, (str, bytes)) else str(host)).split("%")[0]
    if name in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def write(event: str, target: str) -> None:
    line = json.dumps([event, target, " ".join(getattr(sys, "orig_argv", sys.argv))[:300]]) + "\n"
    file = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())  # one write, so that lines of several processes do not mix
    os.close(file)


def hook(event: str, arguments: tuple) -> None:
    if event in EVENTS and not is_here(target := arguments[EVENTS[event]]):
        write(event, str(target[0] if isinstance(target, tuple) else target))


if LOG := os.environ.get("BERTLAB_NETWORK_LOG"):
    write("watched", "")
    sys.addaudithook(hook)
