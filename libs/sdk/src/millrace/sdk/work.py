"""What work can say while it is done: how far it is, and that it stops when nobody wants it any more."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Attempt", "Stopped", "attempt", "doing", "progress"]


class Stopped(BaseException):
    """Raised in work that is no longer wanted: its run was cancelled, or its time is up.

    It is no `Exception`, so that work which goes on after errors does not go on after this.
    """


@dataclass
class Attempt:
    """The attempt that the calling code is part of.

    Attributes:
        run_id: The run that it is done for.
        task: The task's path in the run, such as `each[2013-01].fit`.
        kind: What work it is.
        number: 1 for the first attempt of the task.
        resources: What the workflow says that it needs: `cpu`, `memory_bytes`, `gpu`, `gpu_type`, as far as it says so.
    """

    run_id: str
    task: str
    kind: str
    number: int
    moved: Callable[[float, str], None] = field(default=lambda _fraction, _message: None, repr=False)
    line: Callable[[str], None] = field(default=lambda _text: None, repr=False)
    stopped: threading.Event = field(default_factory=threading.Event, repr=False)
    resources: Mapping[str, Any] = field(default_factory=dict)


_here: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


def attempt() -> Attempt | None:
    """Return the attempt that the calling code is part of; None outside a run."""
    return _here.get()


def progress(fraction: float, message: str = "") -> None:
    """Say how far the work is; outside a run, nothing happens.

    Args:
        fraction: 0 to 1.
        message: What it is doing.

    Raises:
        Stopped: The work is no longer wanted.
    """
    here = _here.get()
    if here is None:
        return
    if here.stopped.is_set():
        raise Stopped(here.task)
    here.moved(min(1.0, max(0.0, fraction)), message[:200])


@contextmanager
def doing(one: Attempt) -> Iterator[None]:
    """Have the code in the block be part of an attempt."""
    token = _here.set(one)
    try:
        yield
    finally:
        _here.reset(token)
