"""Ports of the loopback address."""

import os
import random
import socket
from itertools import islice

from millrace.sdk.stack.failure import CannotStart

LOOPBACK = "127.0.0.1"
_FIRST, _LAST = 20_000, 32_000
_SHARE = 400


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now, all different.

    They lie below those that the system hands to clients, so that a server which is killed finds its own again; and
    where programs ask side by side, each begins at another place, as a port is free until its server has started.
    """
    first = _FIRST + os.getpid() * _SHARE % (_LAST - _FIRST)
    others = [port for port in range(_FIRST, _LAST) if not first <= port < first + _SHARE]
    candidates = [*random.sample(range(first, first + _SHARE), _SHARE), *random.sample(others, len(others))]
    free = list(islice((port for port in candidates if is_free(port)), count))
    if len(free) < count:
        raise CannotStart(f"no {count} free ports are left between {_FIRST} and {_LAST}")
    return free
