"""Named places where a test may have a process die, wait or fail: what is promised must hold at each of them.

They act only where the tests-only distribution `millrace-failpoints` is installed and MILLRACE_FAILPOINTS is set; it
lists them all.
"""

import asyncio
import os
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec


def _armed() -> Callable[[str, str], float] | None:
    if not os.environ.get("MILLRACE_FAILPOINTS") or find_spec("millrace.failpoints") is None:
        return None
    reach: Callable[[str, str], float] = import_module("millrace.failpoints").reach
    return reach


_reach = _armed()


async def failpoint(name: str, key: object = "") -> None:
    """Do what the environment says of this place: nothing, outside a test of faults.

    Args:
        name: The place; a literal, listed in `millrace.failpoints.points`.
        key: Whose event it is, where a test may want to hit only one; bytes, or what has a text.
    """
    if _reach and (seconds := _reach(name, _text(key))):
        await asyncio.sleep(seconds)


def blocking_failpoint(name: str, key: object = "") -> None:
    """Do the same where nothing can be awaited."""
    if _reach and (seconds := _reach(name, _text(key))):
        time.sleep(seconds)


def _text(key: object) -> str:
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)
