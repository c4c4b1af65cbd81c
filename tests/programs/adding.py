"""What an attempt of a program's task does: it adds to a counter outside, or fails as it is to."""

from collections.abc import Callable
from typing import Any

from millrace.runtime.errors import MillraceError

from tests.programs.model import ITEMS

Ledger = Callable[[str, str, str, int], int]
"""Adds to a counter once: key, counter, step, amount; returns what the counter came to by that."""


class Spilt(MillraceError):
    """An attempt that was to fail has failed."""


def added(
    ledger: Ledger,
    task_id: str,
    number: int,
    step: str,
    *,
    program: str,
    counter: str,
    amount: int,
    fails: int = 0,
    late: bool = False,
    until: str = "",
) -> dict[str, Any]:
    """Return what an attempt hands on: the counter's value, and a list that is made of it.

    Args:
        ledger: Who counts.
        task_id: The task's, under which it adds once, however often it is tried.
        number: Of the attempt, from 1.
        step: The task's name.
        program: Whose counter.
        counter: Which.
        amount: What it adds.
        fails: So many attempts fail.
        late: They have added before they do.
        until: A counter without which every attempt fails.

    Raises:
        Spilt: The attempt is one that fails.
    """
    broken = until and not ledger(f"{task_id}-{number}", f"{program}.{until}", step, 0)
    if broken or (number <= fails and not late):
        raise Spilt(f"attempt {number} of {step} is one that fails")
    value = ledger(task_id, f"{program}.{counter}", step, amount)
    if number <= fails:
        raise Spilt(f"attempt {number} of {step} is one that fails, late")
    return {"value": value, "items": list(range(value % ITEMS))}
