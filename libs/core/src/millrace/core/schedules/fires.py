"""When a schedule starts something: its moments, and how late each is on purpose."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import islice, takewhile

from millrace.core.schedules.days import any_of
from millrace.core.schedules.document import Dst, Interval, Schedule
from millrace.core.schedules.walls import walls
from millrace.core.schedules.zones import begin_before, end_after, moments

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HORIZON = timedelta(days=50 * 366)
"""How far is looked ahead: there is a 29 February on a Monday every 40 years at least."""
_LOOK_BACK = timedelta(days=3653)
_MINUTE = timedelta(minutes=1)
_NO_DST = Dst(skipped="skip", doubled="both")


@dataclass(frozen=True, slots=True)
class Fire:
    """A moment for which a run is started.

    Attributes:
        logical_at: The moment itself, UTC: what the run is for.
        due_at: When it is started: so much later as the schedule's jitter says.
    """

    logical_at: datetime
    due_at: datetime


def fires(schedule: Schedule, after: datetime, limit: int) -> list[Fire]:
    """Return up to `limit` of a schedule's moments after one; fewer where it has no more within 50 years.

    Args:
        schedule: Which.
        after: A moment of the years 1900 to 9000, itself not one of them.
        limit: At most so many.
    """
    found = list(islice(moments_of(schedule, after), limit + bool(schedule.jitter_s)))
    return [_fire(schedule, one, found[place + 1 : place + 2]) for place, one in enumerate(found[:limit])]


def fires_between(schedule: Schedule, start: datetime, end: datetime, limit: int) -> list[datetime]:
    """Return up to `limit` of a schedule's moments from one on and before another."""
    return list(islice(moments_of(schedule, before(start), before(end)), limit))


def last_fire(schedule: Schedule, after: datetime, until: datetime) -> datetime | None:
    """Return a schedule's last moment after one and up to another, None where there is none."""
    back = _MINUTE
    while until > after:
        begin = max(after, until - back) if until - after > back else after
        found = None
        for one in moments_of(schedule, begin, until):
            found = one
        if found is not None or begin == after:
            return found
        back *= 2
    return None


def previous_fire(schedule: Schedule, moment: datetime) -> datetime | None:
    """Return a schedule's last moment before one, None where there is none within ten years."""
    return last_fire(schedule, moment - _LOOK_BACK, before(moment))


def moments_of(schedule: Schedule, after: datetime, until: datetime | None = None) -> Iterator[datetime]:
    """Yield a schedule's moments after one and up to another, or for 50 years, UTC, in order."""
    after = after.astimezone(UTC)
    if schedule.start is not None:
        after = max(after, before(schedule.start))
    until = until or after + HORIZON
    if schedule.end is not None:
        until = min(until, before(schedule.end))
    if schedule.interval is not None:
        found = _of_interval(schedule, schedule.interval, after, until)
    else:
        zone = schedule.tz
        shown = walls(schedule, begin_before(after, zone), end_after(until, zone))
        found = moments(shown, zone, schedule.dst or _NO_DST)
    return takewhile(lambda one: one <= until, (one for one in found if one > after))


def just_after(moment: datetime) -> datetime:
    """Return the first moment after one."""
    return moment.astimezone(UTC) + timedelta(microseconds=1)


def before(moment: datetime) -> datetime:
    """Return the moment after which a moment itself is the first."""
    return moment.astimezone(UTC) - timedelta(microseconds=1)


def _of_interval(schedule: Schedule, interval: Interval, after: datetime, until: datetime) -> Iterator[datetime]:
    anchor, every = schedule.start or _EPOCH, timedelta(seconds=interval.every_s)
    one = anchor + ((after - anchor) // every + 1) * every
    while one <= until:
        local = one.astimezone(schedule.tz)
        if not any_of(schedule.exclude, local.date()):
            yield one.astimezone(UTC)
            one += every
            continue
        tomorrow = datetime.combine(local.date() + timedelta(days=1), time(), tzinfo=schedule.tz)
        one += max(1, -((one - tomorrow) // every)) * every


def _fire(schedule: Schedule, logical_at: datetime, then: list[datetime]) -> Fire:
    if not schedule.jitter_s:
        return Fire(logical_at, logical_at)
    jitter = timedelta(seconds=schedule.jitter_s)
    most = min(jitter, then[0] - logical_at) if then else jitter
    text = f"{schedule.name} {logical_at.isoformat()}".encode()
    share = int.from_bytes(hashlib.sha256(text).digest()[:6]) / 2**48
    return Fire(logical_at, logical_at + most * share)
