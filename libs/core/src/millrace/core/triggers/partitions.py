"""Partitions that are times, and which of them make up a larger one."""

import calendar
import re
from datetime import date, timedelta

#: Which partitions make up which, and of how many one consists at most.
MOST_PARTS = {
    ("hour", "day"): 24,
    ("hour", "week"): 168,
    ("hour", "month"): 744,
    ("day", "week"): 7,
    ("day", "month"): 31,
    ("day", "year"): 366,
    ("month", "year"): 12,
}
#: How long each of the larger ones is at most.
DAYS = {"day": 1, "week": 7, "month": 31, "year": 366}
_FORMS = {
    "hour": re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d)"),
    "day": re.compile(r"(\d{4})-(\d\d)-(\d\d)"),
    "month": re.compile(r"(\d{4})-(\d\d)"),
}
_SHOWN = {"hour": "2026-03-29T07", "day": "2026-03-29", "month": "2026-03"}
_LAST_HOUR = 23


def period_of(partition: str, each: str, per: str) -> str:
    """Return the larger partition that one belongs to, such as `2026-03` of the day `2026-03-29`.

    Raises:
        ValueError: It is none of that period.
    """
    day = _first_day(partition, each)
    if per == "day":
        return day.isoformat()
    if per == "week":
        year, week, _ = day.isocalendar()
        return f"{year:04}-W{week:02}"
    return f"{day.year:04}-{day.month:02}" if per == "month" else f"{day.year:04}"


def parts_of(period: str, each: str, per: str) -> tuple[str, ...]:
    """Return the partitions that make up a larger one, in order."""
    if each == "month":
        return tuple(f"{period}-{month:02}" for month in range(1, 13))
    days = _days(period, per)
    if each == "day":
        return tuple(day.isoformat() for day in days)
    return tuple(f"{day}T{hour:02}" for day in days for hour in range(24))


def _days(period: str, per: str) -> list[date]:
    if per == "day":
        return [date.fromisoformat(period)]
    if per == "week":
        first = date.fromisocalendar(int(period[:4]), int(period[6:]), 1)
        return [first + timedelta(days=n) for n in range(7)]
    year, months = int(period[:4]), [int(period[5:])] if per == "month" else range(1, 13)
    return [date(year, month, day) for month in months for day in range(1, calendar.monthrange(year, month)[1] + 1)]


def _first_day(partition: str, each: str) -> date:
    found = _FORMS[each].fullmatch(partition)
    if found is None:
        raise ValueError(f"{partition!r} is no {each}, such as {_SHOWN[each]}")
    year, month, *rest = map(int, found.groups())
    if each == "hour" and rest[1] > _LAST_HOUR:
        raise ValueError(f"{partition!r} is no hour of a day")
    try:
        return date(year, month, rest[0] if rest else 1)
    except ValueError as error:
        raise ValueError(f"{partition!r} is no {each}: {error}") from error
