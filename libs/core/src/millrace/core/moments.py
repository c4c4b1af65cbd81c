"""Moments and durations that a run takes from elsewhere."""

from datetime import UTC, datetime
from typing import Any


def moment(value: Any, what: str) -> datetime:  # noqa: ANN401 - a JSON value
    """Return the moment that a text names, in UTC.

    Raises:
        ValueError: It names none, or one without its offset from UTC.
    """
    at = datetime.fromisoformat(str(value))
    if at.tzinfo is None:
        raise ValueError(f"{what} is {value!r}, a time without its offset from UTC")
    return at.astimezone(UTC)


def seconds(value: Any, what: str) -> float:  # noqa: ANN401 - a JSON value
    """Return a number of seconds.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{what} is {value!r}, not a number of seconds from 0 on")
    return value
