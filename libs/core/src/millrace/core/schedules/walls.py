"""Times of day, one after another, as clocks on a wall would show them that are never set."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta

from millrace.core.schedules.cron import CronTimes
from millrace.core.schedules.days import any_of
from millrace.core.schedules.document import Calendar, Schedule

_DAY = timedelta(days=1)


def walls(schedule: Schedule, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield a schedule's times of day after one, in order, without those of excluded days.

    Args:
        schedule: One with `cron` or `calendar`.
        after: A time of no zone.
        until: Another, after which none are wanted.
    """
    if schedule.calendar is not None:
        return _of_calendar(schedule.calendar, after, until, lambda day: any_of(schedule.exclude, day))
    return _of_cron(schedule.cron or "", after, until, lambda day: any_of(schedule.exclude, day))


def _of_cron(text: str, after: datetime, until: datetime, excluded: Callable[[date], bool]) -> Iterator[datetime]:
    times = CronTimes(text, after)
    kept: date | None = None
    for wall in times:
        if wall > until:
            return
        if wall.date() != kept and excluded(wall.date()):
            times.pass_over(datetime.combine(wall.date() + _DAY, time()))
            continue
        kept = wall.date()
        yield wall


def _of_calendar(
    calendar: Calendar, after: datetime, until: datetime, excluded: Callable[[date], bool]
) -> Iterator[datetime]:
    day, at = after.date(), sorted({*calendar.at})
    while day <= until.date():
        if (not calendar.days or any_of(calendar.days, day)) and not excluded(day):
            yield from (wall for wall in (datetime.combine(day, one) for one in at) if after < wall <= until)
        day += _DAY
