"""What of a schedule is to be started now: what has come due, and what of that which was missed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from millrace.core.schedules.document import Schedule
from millrace.core.schedules.fires import Fire, before, fires, last_fire

Kind = Literal["scheduled", "catch_up", "backfill"]


@dataclass(frozen=True, slots=True)
class Passed:
    """Moments for which nothing is started: all of the schedule's from the first to the last of them."""

    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """What of a schedule is to be done now.

    Attributes:
        starts: What to start, in order, and whether that was missed before.
        passed: What is not started any more; None for nothing.
        decided_until: The last moment about which all is decided with this.
        next_at: When there is something to be done again, at once where more has come due than may be done together;
            None for never.
    """

    starts: tuple[tuple[Fire, Kind], ...]
    passed: Passed | None
    decided_until: datetime
    next_at: datetime | None


def due(schedule: Schedule, decided_until: datetime, now: datetime, limit: int) -> Due:
    """Return what of a schedule is to be done now.

    Args:
        schedule: Which.
        decided_until: The last moment about which all is decided.
        now: The present.
        limit: The most to start together.
    """
    late = now - timedelta(seconds=schedule.late_after_s)
    begin = _pass_over(schedule, decided_until, late if schedule.catch_up == "none" else now - schedule.window)
    found = [one for one in fires(schedule, begin, limit) if one.due_at <= now]
    if found and schedule.catch_up == "latest" and found[0].due_at < late:
        found = [_latest(schedule, begin, now)]
    starts = tuple((one, _kind(one, late)) for one in found)
    first = found[0].logical_at if found else None
    until = found[-1].logical_at if found else begin
    return Due(starts, _passed(schedule, decided_until, first, begin), until, next_due(schedule, until))


def next_due(schedule: Schedule, after: datetime) -> datetime | None:
    """Return when the schedule's next moment after one is due; None where there is none."""
    found = fires(schedule, after, 1)
    return found[0].due_at if found else None


def _kind(fire: Fire, late: datetime) -> Kind:
    return "catch_up" if fire.due_at < late else "scheduled"


def _pass_over(schedule: Schedule, decided_until: datetime, limit: datetime) -> datetime:
    """Return the last moment that was due before another, or what is decided already where there is none later."""
    last = last_fire(schedule, decided_until, limit)
    if last is None:
        return decided_until
    # A moment is due before the next one is, so that of those up to `limit` only the last may be due after it.
    if _due_at(schedule, last) < limit:
        return last
    return last_fire(schedule, decided_until, before(last)) or decided_until


def _latest(schedule: Schedule, after: datetime, now: datetime) -> Fire:
    """Return the latest that is due now of moments of which one is, for certain."""
    last = last_fire(schedule, after, now) or after
    if _due_at(schedule, last) > now:
        last = last_fire(schedule, after, before(last)) or after
    return Fire(last, _due_at(schedule, last))


def _due_at(schedule: Schedule, logical_at: datetime) -> datetime:
    return fires(schedule, before(logical_at), 1)[0].due_at


def _passed(schedule: Schedule, after: datetime, first: datetime | None, begin: datetime) -> Passed | None:
    """Return what lies between what was decided and what is started, or up to `begin` where nothing is."""
    until = before(first) if first is not None else begin
    last = last_fire(schedule, after, until)
    if last is None:
        return None
    return Passed(fires(schedule, after, 1)[0].logical_at, last)
