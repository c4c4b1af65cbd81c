"""What work can say while it is done, what it can leave to the next attempt, and that it is to stop."""

import threading
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from millrace.contracts.tasks import Carried
from millrace.runtime.errors import InvalidInput, Preempted
from pydantic import ValidationError

__all__ = [
    "Attempt",
    "Preempted",
    "Stopped",
    "attempt",
    "checkpoint",
    "doing",
    "external_ref",
    "preempted",
    "progress",
]

Keep = Callable[[Carried], Awaitable[None] | None]
"""Keeps what the next attempt is left: at once, or once what it returns has been awaited."""


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
        task_id: The same in every attempt of the task, and of no other: a name for what it begins elsewhere.
        carried: What is left to the next attempt, as it stands.
        resources: What the workflow says that it needs: `cpu`, `memory_bytes`, `gpu`, `gpu_type`, as far as it says so.
    """

    run_id: str
    task: str
    kind: str
    number: int
    moved: Callable[[float, str], None] = field(default=lambda _fraction, _message: None, repr=False)
    line: Callable[[str], None] = field(default=lambda _text: None, repr=False)
    stopped: threading.Event = field(default_factory=threading.Event, repr=False)
    task_id: str = ""
    carried: Carried = field(default_factory=Carried, repr=False)
    keep: Keep = field(default=lambda _carried: None, repr=False)
    preempted: Callable[[], bool] = field(default=lambda: False, repr=False)
    resources: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._given = self.carried

    @property
    def last_checkpoint(self) -> Any:  # noqa: ANN401 - a JSON value
        """What earlier attempts have kept with `checkpoint`; None where they have kept nothing."""
        return self._given.checkpoint

    @property
    def last_external_ref(self) -> str:
        """What earlier attempts have begun elsewhere, by their `external_ref`; empty for nothing."""
        return self._given.external_ref


class Kept:
    """That something is kept: at once in a plain function, once it is awaited in a coroutine."""

    def __init__(self, kept: Awaitable[None] | None = None, then: Callable[[], None] = lambda: None) -> None:
        self._kept, self._then = kept, then
        if kept is None:
            then()

    def __await__(self) -> Generator[Any, None, None]:
        if self._kept is not None:
            yield from self._kept.__await__()
            self._then()


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
    _check_wanted(here)
    here.moved(min(1.0, max(0.0, fraction)), message[:200])


def checkpoint(value: Any) -> Kept:  # noqa: ANN401 - a JSON value
    """Keep how far the work has come: the next attempt, should there be one, finds it as `last_checkpoint`.

    A plain function goes on once it is kept; a coroutine awaits what is returned. Outside a run, nothing happens.

    Args:
        value: JSON, at most 64 KiB; the latest counts.

    Raises:
        InvalidInput: It is no JSON, or too large.
        Preempted: It is kept, and the worker has to go: the next attempt goes on from here.
        Stopped: The work is no longer wanted.
    """
    here = _here.get()
    return Kept() if here is None else _keep(here, lambda: _give_way(here), checkpoint=value)


def external_ref(ref: str) -> Kept:
    """Keep what the work has begun elsewhere, such as the id of an outside job, for the next attempt to go on with.

    That one finds it as `last_external_ref`. Otherwise as `checkpoint`, but that a worker which has to go is no reason
    to stop here.

    Args:
        ref: At most 1,024 characters; the latest counts, an empty one says that there is nothing any more.

    Raises:
        InvalidInput: It is no text, or too long.
        Stopped: The work is no longer wanted.
    """
    here = _here.get()
    return Kept() if here is None else _keep(here, lambda: None, external_ref=ref)


def preempted() -> bool:
    """Return whether the worker has to go: a `checkpoint` now is the last, and raises `Preempted` when it is kept."""
    here = _here.get()
    return here is not None and here.preempted()


@contextmanager
def doing(one: Attempt) -> Iterator[None]:
    """Have the code in the block be part of an attempt."""
    token = _here.set(one)
    try:
        yield
    finally:
        _here.reset(token)


def _keep(here: Attempt, then: Callable[[], None], **changed: Any) -> Kept:  # noqa: ANN401 - fields of Carried
    _check_wanted(here)
    try:
        here.carried = Carried.model_validate(here.carried.model_dump() | changed)
    except ValidationError as error:
        told = error.errors()[0]
        raise InvalidInput(f"{told['loc'][0]}: {told['msg']}") from None
    return Kept(here.keep(here.carried), then)


def _check_wanted(here: Attempt) -> None:
    if here.stopped.is_set():
        raise Stopped(here.task)


def _give_way(here: Attempt) -> None:
    if here.preempted():
        raise Preempted(here.task)
