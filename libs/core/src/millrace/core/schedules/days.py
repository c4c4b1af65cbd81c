"""Which days a calendar means, and which an exclusion."""

from calendar import monthrange
from collections.abc import Iterable
from datetime import date

from millrace.core.schedules.document import Days
from millrace.core.schedules.template import WEEKDAYS


def any_of(days: Iterable[Days], day: date) -> bool:
    """Return whether one of `days` means this day."""
    return any(means(one, day) for one in days)


def means(days: Days, day: date) -> bool:
    """Return whether all that is given of `days` holds for this day."""
    return (
        (not days.dates or day in days.date_set)
        and (days.from_ is None or days.from_ <= day)
        and (days.to is None or day <= days.to)
        and (not days.months or day.month in days.months)
        and (not days.month_days or bool({day.day, day.day - _length(day) - 1} & {*days.month_days}))
        and (not days.weekdays or WEEKDAYS[day.weekday()] in days.weekdays)
        and (not days.nth or bool({_nth(day), _nth_from_end(day)} & {*days.nth}))
    )


def _length(day: date) -> int:
    return monthrange(day.year, day.month)[1]


def _nth(day: date) -> int:
    return (day.day - 1) // 7 + 1


def _nth_from_end(day: date) -> int:
    return -((_length(day) - day.day) // 7 + 1)
