"""Cron expressions, as Debian's cron reads them."""

from datetime import datetime, timedelta
from functools import lru_cache

from cronsim import CronSim, CronSimError

FIELDS = ("minute", "hour", "day of month", "month", "day of week")
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_ANY = datetime(2000, 1, 1)  # noqa: DTZ001 - a time of day, of no zone


class InvalidCron(ValueError):
    """The text is no cron expression."""


@lru_cache(maxsize=1_000)
def parse_cron(text: str) -> str:
    """Return the expression's five fields, macros written out.

    Raises:
        InvalidCron: It is none; the message names the field.
    """
    fields = MACROS.get(text.strip().lower(), text).split()
    if len(fields) != len(FIELDS):
        raise InvalidCron(
            f"cron: {text!r} has {len(fields)} fields, not {len(FIELDS)} ({', '.join(FIELDS)}); "
            "for less than a minute there is `interval`"
        )
    try:
        CronSim(" ".join(fields), _ANY)
    except CronSimError as error:
        wrong = str(error).removeprefix("Bad ").replace("-", " ")
        raise InvalidCron(f"cron: {text!r} has a {wrong} that cannot be read, or that no month has") from None
    except (AssertionError, TypeError, ValueError):  # what the library says of some that are no better
        raise InvalidCron(f"cron: {text!r} cannot be read") from None
    return " ".join(fields)


def every_hour(text: str) -> bool:
    """Return whether the expression's minute or hour begins with `*`, so that it follows the time that passes."""
    fields = MACROS.get(text.strip().lower(), text).split()
    return any(field.startswith("*") for field in fields[:2])


class CronTimes:
    """The times of day of an expression, one after another, in any place where no clock is ever set.

    Args:
        text: The expression.
        after: Where to begin; a time that it would be itself is not one.
    """

    def __init__(self, text: str, after: datetime) -> None:
        self._times = CronSim(parse_cron(text), after)

    def __iter__(self) -> "CronTimes":
        return self

    def __next__(self) -> datetime:
        return next(self._times)

    def pass_over(self, until: datetime) -> None:
        """Go on with what is not before `until`."""
        self._times.dt = until - timedelta(seconds=1)
