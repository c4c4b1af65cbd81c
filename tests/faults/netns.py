"""A network namespace of the test's own, joined to the host by one pair of virtual interfaces."""

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Literal

Direction = Literal["in", "out"]
BOTH: tuple[Direction, ...] = ("in", "out")
_COMMANDS = ("ip", "nft", "tc")
_TABLE = "inet faults"
_PREFIX = "millrace"


class Namespace:
    """One end of a wire; what runs in it can be cut off by port and direction.

    Attributes:
        host: The address of the host's end.
        address: The address of its own end.
        prefix: What stands before a command that runs in it.
    """

    def __init__(self, number: int) -> None:
        self._name = f"{_PREFIX}-{number}"
        self._outer, self._inner = f"mrh{number}", f"mrn{number}"
        net = f"198.{18 + number // 256 % 2}.{number % 256}"  # RFC 2544: for tests of networks
        self.host, self.address = f"{net}.1", f"{net}.2"
        self.prefix = ("ip", "netns", "exec", self._name)

    def make(self) -> None:
        """Make it, with its wire."""
        _run("ip", "netns", "add", self._name)
        _run("ip", "link", "add", self._outer, "type", "veth", "peer", "name", self._inner, "netns", self._name)
        _run("ip", "address", "add", f"{self.host}/24", "dev", self._outer)
        _run("ip", "link", "set", self._outer, "up")
        self._inside("ip", "address", "add", f"{self.address}/24", "dev", self._inner)
        for link in ("lo", self._inner):
            self._inside("ip", "link", "set", link, "up")
        self._inside("nft", f"add table {_TABLE}")
        for chain, hook in (("in", "input"), ("out", "output")):
            self._inside("nft", f"add chain {_TABLE} {chain}_ {{ type filter hook {hook} priority 0; }}")

    def remove(self) -> None:
        """Remove it and its wire."""
        for command in (("ip", "link", "delete", self._outer), ("ip", "netns", "delete", self._name)):
            subprocess.run(command, check=False, capture_output=True)

    def cut(self, *ports: int, directions: tuple[Direction, ...] = BOTH) -> None:
        """Drop every packet from or to these ports, without a word to either side.

        Args:
            ports: At whichever end.
            directions: `in` to the namespace, `out` of it.
        """
        for direction, end, port in product(directions, ("sport", "dport"), ports):
            self._inside("nft", f"add rule {_TABLE} {direction}_ tcp {end} {port} counter drop")

    def dropped(self) -> Counter[int]:
        """Return how many packets were dropped of each port since the last healing."""
        counts: Counter[int] = Counter()
        for entry in json.loads(self._inside("nft", "-j", f"list table {_TABLE}"))["nftables"]:
            if rule := entry.get("rule"):
                said = {name: value for part in rule["expr"] for name, value in part.items()}
                counts[said["match"]["right"]] += said["counter"]["packets"]
        return counts

    def heal(self) -> None:
        """Let all packets pass again."""
        for direction in BOTH:
            self._inside("nft", f"flush chain {_TABLE} {direction}_")

    def narrow(self, rate: str) -> None:
        """Let no more than this pass in each direction, such as `1mbit`."""
        shape = ("root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms")
        self._inside("tc", "qdisc", "replace", "dev", self._inner, *shape)
        _run("tc", "qdisc", "replace", "dev", self._outer, *shape)

    def held_up(self) -> int:
        """Return how often something had to wait since it was narrowed, because of that, on its way out."""
        (shaped, *_) = json.loads(self._inside("tc", "-s", "-j", "qdisc", "show", "dev", self._inner))
        return int(shaped["overlimits"])

    def widen(self) -> None:
        """Let as much pass as will."""
        self._inside("tc", "qdisc", "delete", "dev", self._inner, "root")
        _run("tc", "qdisc", "delete", "dev", self._outer, "root")

    def _inside(self, *command: str) -> str:
        return _run(*self.prefix, *command)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """Lend a namespace; afterwards it is gone."""
    _remove_leftovers()
    made = Namespace(os.getpid())
    try:
        made.make()
        yield made
    finally:
        made.remove()


def hindrance() -> str:
    """Return what is needed to make namespaces, wires and filters here; nothing when they can be made."""
    if os.geteuid() != 0:
        return "needs root"
    if missing := [name for name in _COMMANDS if shutil.which(name) is None]:
        return f"needs {', '.join(missing)}"
    try:
        with namespace() as tried:
            tried.cut(1)
            tried.narrow("1mbit")
    except (OSError, subprocess.CalledProcessError):
        return "needs root's rights over networks"
    return ""


def _remove_leftovers() -> None:
    """Remove what was made by test processes that are gone."""
    folder = Path("/run/netns")
    for name in folder.glob(f"{_PREFIX}-*") if folder.is_dir() else ():
        number = name.name.rpartition("-")[2]
        if number.isdecimal() and not Path("/proc", number).exists():
            Namespace(int(number)).remove()


def _run(*command: str) -> str:
    """Run a command and return what it says."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout
