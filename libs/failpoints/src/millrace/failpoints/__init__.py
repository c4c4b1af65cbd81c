"""For tests only: what becomes of a process at named places, as MILLRACE_FAILPOINTS says."""

import os
from functools import cache

from millrace.failpoints.points import POINTS
from millrace.failpoints.rules import Rule, parse

__all__ = ["POINTS", "Rule", "parse", "reach"]


def reach(name: str, key: str = "") -> float:
    """Do what the rules say of a place that is reached now; return for how long to wait there, seconds.

    Raises:
        RuntimeError: A rule says that it fails here.
    """
    return sum(rule.hit(key) for rule in _rules() if rule.name == name)


@cache
def _rules() -> tuple[Rule, ...]:
    """Return the rules, and plant what is to be planted: once, at the first place, when all code is imported."""
    rules, planted = parse(os.environ["MILLRACE_FAILPOINTS"])
    if planted:
        # Imported late: it imports the runtime, which imports this.
        from millrace.failpoints.planted import plant  # noqa: PLC0415

        for name in planted:
            plant(name)
    return rules
