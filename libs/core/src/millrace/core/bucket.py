"""A token bucket: how many things may begin now, of which so many may in so many seconds."""

from datetime import datetime, timedelta
from typing import NamedTuple


class Drawn(NamedTuple):
    """What begins now.

    Attributes:
        drawn: How many.
        full_at: When the bucket is as it is after a long pause; to be kept for the next time.
        next_at: When the next one may begin; None where all that were wanted do.
    """

    drawn: int
    full_at: datetime
    next_at: datetime | None


def draw(count: int, per_s: float, burst: int, wanted: int, full_at: datetime | None, now: datetime) -> Drawn:
    """Return how many of `wanted` begin at `now`.

    Args:
        count: How many may begin, on average, in
        per_s: so many seconds.
        burst: How many may begin at once after a pause.
        wanted: How many are to.
        full_at: What was kept the last time.
        now: The time.

    Source: the generic cell rate algorithm (ITU-T I.371): a bucket of `burst` that is refilled evenly.
    """
    each = timedelta(seconds=per_s) / count
    bucket = each * burst
    full_at = max(full_at or now, now)
    # A timedelta divides with rounding: what is shorter than a microsecond keeps nobody.
    free = (bucket - (full_at - now)) // each if each else wanted
    drawn = max(0, min(wanted, free))
    full_at += each * drawn
    return Drawn(drawn, full_at, full_at - bucket + each if drawn < wanted else None)
