"""Durations as tests write them."""

import re
from datetime import timedelta

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PART = r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])"


def seconds_of(duration: str | float | timedelta) -> float:
    """Return how long a duration is, in seconds.

    Raises:
        ValueError: It is none.
    """
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if not isinstance(duration, str):
        return float(duration)
    if not re.fullmatch(rf"\s*(?:{_PART}\s*)+", duration):
        raise ValueError(f"{duration!r} is no duration; write such as '30d', '1h 30m' or '500ms'")
    return float(sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, duration)))
