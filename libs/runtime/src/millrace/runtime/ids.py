"""Ids that begin with the time at which they were made, by whichever clock their maker goes by."""

import os
import time
from uuid import UUID

from asyncpg.pgproto import pgproto  # its UUIDs are equal to any, and made and written in a fraction of the time

#: How far a clock may be behind the newest id and ids still come in order: longer than any transaction takes.
BEHIND_S = 60
_PER_MS = 1 << 12  # what of a millisecond the 12 bits after the version say
_PER_S = 1000 * _PER_MS
_RANDOM = (1 << 62) - 1


class Ids:
    """Makes UUIDv7s, each greater than the one before; after a clock that was wrong has been put right, by its time."""

    def __init__(self) -> None:
        self._last = 0

    def make(self, unix_s: float) -> UUID:
        """Return an id of that time.

        Source: RFC 9562, 5.7 and 6.2, method 3.
        """
        at = int(unix_s * _PER_S)
        if 0 <= self._last - at < BEHIND_S * _PER_S:
            at = self._last + 1
        self._last = at
        rest = int.from_bytes(os.urandom(8), "big") & _RANDOM
        made = at // _PER_MS << 80 | 7 << 76 | at % _PER_MS << 64 | 2 << 62 | rest
        found: UUID = pgproto.UUID(made.to_bytes(16, "big"))
        return found


def read_id(text: str) -> UUID:
    """Return the id that a text is: 32 hexadecimal digits, in 36 characters at most with hyphens.

    Raises:
        ValueError: It is none.
    """
    found: UUID = pgproto.UUID(text)
    return found


_ids = Ids()


def new_id(unix_s: float | None = None) -> UUID:
    """Return a new UUIDv7 of a time, or of now by the process's own clock."""
    return _ids.make(time.time() if unix_s is None else unix_s)
