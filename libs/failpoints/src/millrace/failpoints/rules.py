"""What is to happen where: `consume.after_commit=kill@3; tasks.worked=sleep:5; consume.handling=error#customer-7`."""

import os
import re
import signal
import time
from dataclasses import dataclass, field

from millrace.failpoints.points import POINTS

_RULE = re.compile(
    r"(?P<name>[a-z_.]+)\s*=\s*(?P<action>kill|sleep|busy|error)(?::(?P<seconds>[\d.]+))?(?:@(?P<nth>\d+))?(?:#(?P<key>.+))?"
)
_PLANT = re.compile(r"plant\s*=\s*(?P<fault>[a-z_]+)")


@dataclass
class Rule:
    """What happens at one place.

    Attributes:
        action: `kill` as by kill -9, `error`, `sleep` (waiting) or `busy` (computing, so that nothing else runs).
        nth: Only the hit of this number acts; 0 for every one.
        key: Only hits with this key count; empty for all.
    """

    name: str
    action: str
    seconds: float = 0.0
    nth: int = 0
    key: str = ""
    hits: int = field(default=0, init=False)

    def hit(self, key: str) -> float:
        """Act when this hit is meant; return for how long to wait, seconds.

        Raises:
            RuntimeError: The rule says so.
        """
        if self.key not in {"", key}:
            return 0.0
        self.hits += 1
        if self.nth not in {0, self.hits}:
            return 0.0
        # Straight to the log: whoever dies here says nothing later.
        os.write(2, f"failpoint {self.name} {self.action} hit {self.hits}\n".encode())
        return self._act()

    def _act(self) -> float:
        match self.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "error":
                raise RuntimeError(f"failpoint {self.name}")
            case "busy":
                end = time.monotonic() + self.seconds
                while time.monotonic() < end:
                    pass
            case _:
                return self.seconds
        return 0.0


def parse(text: str) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
    """Return the rules, and the faults to plant (`plant=inbox_forgets`).

    Raises:
        ValueError: A part of the text is neither, or names a place that does not exist.
    """
    rules: list[Rule] = []
    planted: list[str] = []
    for part in filter(None, map(str.strip, text.split(";"))):
        if found := _PLANT.fullmatch(part):
            planted.append(found["fault"])
        elif (found := _RULE.fullmatch(part)) and found["name"] in POINTS:
            seconds, nth = float(found["seconds"] or 0), int(found["nth"] or 0)
            rules.append(Rule(found["name"], found["action"], seconds, nth, found["key"] or ""))
        else:
            raise ValueError(f"{part!r} is no rule: name=kill|error|sleep:s|busy:s[@nth][#key], of a place in POINTS")
    return tuple(rules), tuple(planted)
