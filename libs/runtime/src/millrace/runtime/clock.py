"""What time it is: the database's word, carried on by a clock that nobody sets."""

import math
import time
from datetime import datetime

from millrace.runtime.telemetry import CLOCK_SKEW


class DatabaseClock:
    """PostgreSQL's time, in a process whose own clock may be wrong or be set while it runs.

    Attributes:
        seen_at: When the database said it last, by `time.monotonic()`.
    """

    def __init__(self) -> None:
        self.seen_at = -math.inf
        self._ahead_s: float | None = None

    def saw(self, now: datetime, at: float) -> None:
        """Take over what the database said when `time.monotonic()` was `at`."""
        self.seen_at = at
        self._ahead_s = now.timestamp() - at
        CLOCK_SKEW.set(self.time() - time.time())

    @property
    def seen(self) -> bool:
        """Whether the database has said anything."""
        return self._ahead_s is not None

    def time(self) -> float:
        """Return the Unix time, seconds; until the database has said anything, by the process's own clock."""
        return time.time() if self._ahead_s is None else time.monotonic() + self._ahead_s
