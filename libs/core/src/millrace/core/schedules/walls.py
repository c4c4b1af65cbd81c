"""Times of day, one after another, as clocks on a wall would show them that are never set."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta

from millrace.core.schedules.cron import CronTimes
from millrace.core.schedules.days import any_of
from millrace.core.schedules.document import Calendar, Schedule

#: What comes no sooner than this never comes: there is a 29 February on a Monday every 40 years at least.
HORIZON = timedelta(days=50 * 366)
_DAY = timedelta(days=1)


def walls(schedule: Schedule, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield a schedule's times of day after one, in order, without those of excluded days, for 50 years at most.

    Args:
        schedule: One with `cron` or `calendar`.
        after: A time of no zone.
        until: Another, after which none are wanted.
    """
    if schedule.calendar is not None:
        return _of_calendar(schedule.calendar, after, until, lambda day: any_of(schedule.exclude, day))
    return _of_cron(schedule.cron or "", after, until, lambda day: any_of(schedule.exclude, day))


def horizon(after: datetime, until: datetime) -> datetime:
    """Return where a search that has found something at `after` ends."""
    return min(until, after + HORIZON) if after < until - HORIZON else until


def _of_cron(text: str, after: datetime, until: datetime, excluded: Callable[[date], bool]) -> Iterator[datetime]:
    times, end = CronTimes(text, after), horizon(after, until)
    kept: date | None = None
    for wall in times:
        if wall > end:
            return
        if wall.date() != kept and excluded(wall.date()):
            times.pass_over(datetime.combine(wall.date() + _DAY, time()))
            continue
        kept, end = wall.date(), horizon(wall, until)
        yield wall


def _of_calendar(
    calendar: Calendar, after: datetime, until: datetime, excluded: Callable[[date], bool]
) -> Iterator[datetime]:
    day, end, at = after.date(), horizon(after, until), sorted({*calendar.at})
    while day <= end.date():
        if (not calendar.days or any_of(calendar.days, day)) and not excluded(day):
            found = [wall for wall in (datetime.combine(day, one) for one in at) if after < wall <= until]
            yield from found
            end = horizon(found[-1], until) if found else end
        day += _DAY
