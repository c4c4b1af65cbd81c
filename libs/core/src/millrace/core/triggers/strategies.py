"""Which runs of one trigger, or of one schedule, may be under way together, and how many begin when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from millrace.core.bucket import draw
from millrace.core.triggers.ir import Strategy, Throttle


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not ended.

    Attributes:
        waits: It has not begun.
    """

    run_id: UUID
    waits: bool


@dataclass(frozen=True, slots=True)
class Arrival:
    """What becomes of runs that are to start, and of those that are there.

    Attributes:
        kept: Which of the new ones become runs, by their place among them; the others are superseded by the last of
            these, or by what is under way.
        ended: Those that are cancelled, as a new one stands in their place.
    """

    kept: tuple[int, ...]
    ended: tuple[UUID, ...] = ()


def width_of(strategy: Strategy, limit: int | None) -> int | None:
    """Return how many runs may be under way together; None for any number."""
    return limit if strategy == "parallel" else 1


def looks_at_open(strategy: Strategy, *, latest: bool) -> bool:
    """Return whether what becomes of a new run depends on which are there."""
    return latest or strategy in {"first_only", "latest_only", "cancel_in_progress"}


def arrive(strategy: Strategy, new: int, there: Sequence[OpenRun], *, latest: bool = False) -> Arrival:
    """Return what becomes of `new` runs.

    Args:
        strategy: The trigger's or the schedule's.
        new: How many are to start, in their order.
        there: Its runs that have not ended; needed where `looks_at_open`.
        latest: Of those that wait, only the newest is wanted.
    """
    if not new:
        return Arrival(())
    if strategy == "first_only":
        return Arrival(() if there else (0,))
    if strategy == "cancel_in_progress":
        return Arrival((new - 1,), tuple(run.run_id for run in there))
    if strategy == "latest_only" or latest:
        return Arrival((new - 1,), tuple(run.run_id for run in there if run.waits))
    return Arrival(tuple(range(new)))


@dataclass(frozen=True, slots=True)
class Admission:
    """How many runs begin now.

    Attributes:
        count: The first so many of those that wait.
        full_at: When the throttle is as it is after a long pause; to be kept for the next decision.
        next_at: When the throttle lets the next one begin; None where it keeps none.
    """

    count: int
    full_at: datetime | None
    next_at: datetime | None = None


def admit(
    throttle: Throttle | None, width: int | None, under_way: int, waiting: int, full_at: datetime | None, now: datetime
) -> Admission:
    """Return how many of `waiting` runs begin at `now`.

    Args:
        throttle: At what rate they may, at most.
        width: How many may be under way together.
        under_way: How many are.
        waiting: How many wait.
        full_at: What the last decision gave.
        now: The time.
    """
    room = waiting if width is None else max(0, min(waiting, width - under_way))
    if throttle is None or not room:
        return Admission(room, full_at)
    return Admission(*draw(throttle.runs, throttle.per_s, throttle.burst or throttle.runs, room, full_at, now))
