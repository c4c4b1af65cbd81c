"""The time of runs in this process: it goes by, it can be moved on, or both."""

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """A clock that can be moved on.

    Args:
        start: What it shows at first; default: the real time.
        goes: Whether time goes by on it; otherwise it stands until it is moved.
    """

    def __init__(self, start: datetime | None = None, *, goes: bool = True) -> None:
        self._shown = start or datetime.now(UTC)
        self._since = time.monotonic() if goes else None

    def now(self) -> datetime:
        """Return what it shows."""
        gone_s = time.monotonic() - self._since if self._since is not None else 0.0
        return self._shown + timedelta(seconds=gone_s)

    def move_to(self, moment: datetime) -> None:
        """Show a later moment; an earlier one changes nothing."""
        self._shown += max(timedelta(0), moment - self.now())
