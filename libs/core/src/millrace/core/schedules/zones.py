"""Times of day as moments: what becomes of those that do not exist where clocks are set, and that come twice."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from millrace.core.schedules.document import Dst

_NEAR = timedelta(hours=50)
"""Clocks that are set by no more than a day, and as often as every two days, are seen from this far."""


def moments(walls: Iterable[datetime], zone: ZoneInfo, dst: Dst) -> Iterator[datetime]:
    """Yield the moments at which clocks of a zone show times of day, UTC, in order, each once.

    Args:
        walls: Times of no zone, in order.
        zone: Where the clocks are.
        dst: What becomes of times that do not exist or come twice.
    """
    # Only near a change can a later time of day be an earlier moment: what is near one is put in order together.
    together: list[datetime] = []
    for wall in walls:
        if near_change(wall, zone):
            together.append(wall)
            continue
        yield from _in_order(together, zone, dst)
        together = []
        yield wall.replace(tzinfo=zone).astimezone(UTC)
    yield from _in_order(together, zone, dst)


def near_change(wall: datetime, zone: ZoneInfo) -> timedelta:
    """Return by how much clocks are set that soon before or after a time of day that it matters; else nothing."""
    change = abs(_offset(wall, zone, _NEAR) - _offset(wall, zone, -_NEAR))
    return change if change and _offset(wall, zone, 2 * change) != _offset(wall, zone, -2 * change) else timedelta()


def begin_before(after: datetime, zone: ZoneInfo) -> datetime:
    """Return the latest time of day after which are all whose moments are after one.

    Args:
        after: A moment, UTC.
        zone: Whose times of day.
    """
    wall = after.astimezone(zone).replace(tzinfo=None)
    return wall - 5 * near_change(wall, zone)


def end_after(until: datetime, zone: ZoneInfo) -> datetime:
    """Return a time of day before which are all whose moments are no later than one."""
    return until.astimezone(zone).replace(tzinfo=None) + _NEAR


def _offset(wall: datetime, zone: ZoneInfo, by: timedelta) -> timedelta:
    return (wall + by).replace(tzinfo=zone).utcoffset() or timedelta()


def _in_order(walls: list[datetime], zone: ZoneInfo, dst: Dst) -> list[datetime]:
    return sorted({moment for wall in walls for moment in _moments_of(wall, zone, dst)})


def _moments_of(wall: datetime, zone: ZoneInfo, dst: Dst) -> list[datetime]:
    earlier = wall.replace(tzinfo=zone).astimezone(UTC)
    later = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if earlier == later:
        return [earlier]
    if earlier < later:
        return {"first": [earlier], "second": [later], "both": [earlier, later]}[dst.doubled]
    # It does not exist. By the offset from before the gap (fold 0) it is as long after that gap as it is into it.
    return {"skip": [], "shift": [earlier], "after": [_end_of_gap(later, earlier, zone)]}[dst.skipped]


def _end_of_gap(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment, to the second, at which clocks show what they do after they were set between two."""
    wanted = after.astimezone(zone).utcoffset()
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == wanted:
            high = middle
        else:
            low = middle
    return datetime.fromtimestamp(high, UTC)
