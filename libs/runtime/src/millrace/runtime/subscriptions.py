"""The two tables of a service: what facts it reacts to and what work it can be given."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from millrace.contracts.event import Event, topic_fields
from millrace.contracts.tasks import Output
from pydantic import BaseModel

if TYPE_CHECKING:
    from millrace.runtime.tasks import Job
    from millrace.runtime.transaction import Transaction

E = TypeVar("E", bound=Event)
S = TypeVar("S", bound="Transaction")
I = TypeVar("I", bound=BaseModel)  # noqa: E741 - input
R = TypeVar("R")

Start = Literal["now", "earliest"]
"""Where a new listener begins in its topics."""


@dataclass(frozen=True)
class Unread:
    """Why a record's value was not kept, and what could be told of it.

    Attributes:
        size_bytes: Of its value; 0 where that could not be told.
        sha256: Of its value; empty where that could not be told.
    """

    reason: str
    size_bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Record:
    """A Kafka record as received, for topics that are not ours.

    Attributes:
        unread: Why it was not read; nothing where it was.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int
    unread: Unread | None = None


@dataclass(frozen=True)
class Subscription:
    """One row of SUBSCRIPTIONS.

    Attributes:
        event: The class, or the base class, of the events it takes.
        topics: Where they are.
        batch: Whether the function takes them all at once.
        full: Says whether it can take no more for now; what comes then waits in Kafka.
    """

    event: type[Event]
    function: Callable[..., Awaitable[None]]
    topics: tuple[str, ...]
    start: Start
    batch: bool
    full: Callable[[], bool] | None = None


@dataclass(frozen=True)
class TaskKind:
    """One row of TASKS."""

    kind: str
    input: type[BaseModel]
    work: Callable[..., Any]
    finish: Callable[..., Awaitable[Output]]


def on(
    event: type[E], function: Callable[[E, S], Awaitable[None]], *, start: Start, topics: Sequence[str] = ()
) -> Subscription:
    """Return the row by which `function` gets each event of a class, one at a time.

    Args:
        event: The class; a base class stands for all below it.
        function: Called with the event and the transaction that its effects are part of. It may be called again
            for the same event when anything in the batch failed: only what it writes through the transaction counts.
        start: Where a new listener begins.
        topics: Needed where the event's topic names fields of the event; else its own topic.
    """
    return Subscription(event, function, _topics(event, topics), start, batch=False)


def on_batch(
    event: type[E], function: Callable[[Sequence[E], S], Awaitable[None]], *, start: Start, topics: Sequence[str] = ()
) -> Subscription:
    """Return the row by which `function` gets the events of a class that one transaction settles, in order.

    A poll of many is settled in several.

    It reports a bad event by raising, as any handler does: the batch is then replayed by halves.
    """
    return Subscription(event, function, _topics(event, topics), start, batch=True)


def task(
    kind: str,
    input: type[I],  # noqa: A002 - the field's name everywhere
    work: Callable[[I, "Job"], Awaitable[R]] | Callable[[I, "Job"], R],
    finish: Callable[[R, S], Awaitable[Output]],
) -> TaskKind:
    """Return the row for one kind of task.

    Args:
        kind: Such as `training.tune`: the queue's name, a dot, a verb.
        input: What it needs, validated before the task is accepted.
        work: Takes time, outside any transaction. `async def` only waits, on the event loop; a plain `def` computes, in
            a child process that is killed when the task is cancelled or its lease lost. What it returns must be JSON or
            a pydantic model or dataclass of such.
        finish: Called in the transaction that says `TaskSucceeded`; returns the output.
    """
    return TaskKind(kind, input, work, finish)


def _topics(event: type[Event], topics: Sequence[str]) -> tuple[str, ...]:
    if topics:
        return tuple(topics)
    if topic_fields(event.topic):
        raise ValueError(f"{event.__name__} is published on {event.topic}: say which topics")
    return (event.topic,)
