"""Artifacts that a service wrote and none of its tables refers to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from millrace.runtime.database import Transactions
from millrace.runtime.errors import MillraceError
from millrace.runtime.shelves import Note, Shelves
from millrace.runtime.transaction import Transaction

S = TypeVar("S", bound=Transaction)

MOST_AT_ONCE = 200
SETTLED = timedelta(minutes=10)
"""Longer than any removal takes: what is set aside since then, its remover has left behind."""
APART = timedelta(minutes=3)
"""By how much the clocks of process, database and store may differ; by more, nobody knows how old anything is."""

Referred = Callable[[S, Sequence[str]], Awaitable[set[str]]]
"""Returns those of some digests that a service's tables refer to."""


class ClocksApart(MillraceError):
    """One of the clocks is wrong, so nothing is removed."""


class Unreferenced:
    """A rule's batches: what the service wrote, longer than `grace` ago, and refers to nowhere.

    The store is shared, and equal bytes of two services are one object. So every put leaves a note of its own, with
    digest, writer and time in its name, *before* the object is there, and an object goes only with the last note:

    1. It is set aside under a name of this removal's own.
    2. The old notes of this service are removed; a newer one, or one of another service, stays.
    3. Where a note is left, of whoever put the same bytes meanwhile, the object is put back; else it is gone.

    A note written before 3 is seen in 3; one written later belongs to a put that is not done yet and brings the object
    itself. Whoever dies in between leaves the object set aside, and `recover` ends what was begun.

    How old a note is, the store says that dated it, and what time it is, the database; never this process alone.
    """

    def __init__(
        self,
        shelves: Shelves,
        service: str,
        begin: Transactions[S],
        referred: Referred[S],
        grace: timedelta,
        *,
        settled: timedelta = SETTLED,
    ) -> None:
        self._shelves = shelves
        self._service = service
        self._begin: Transactions[Any] = begin
        self._referred: Referred[Any] = referred
        self._grace = grace
        self._settled = settled

    async def batches(self) -> AsyncIterator[int]:
        """Remove what may go, one small part of the store at a time.

        Raises:
            ClocksApart: One of the clocks is wrong.
        """
        now = await self._now()
        yield await asyncio.to_thread(self._recover, now)
        for shelf in self._shelves.names:
            notes = await asyncio.to_thread(self._old_notes, shelf, now - self._grace)
            digests = sorted({note.digest for note in notes})
            for start in range(0, len(digests), MOST_AT_ONCE):
                yield await self._collect(digests[start : start + MOST_AT_ONCE], notes)

    async def _now(self) -> datetime:
        """Return the database's time, once the clocks of store and process agree with it."""
        stored = await asyncio.to_thread(self._shelves.now, self._service)
        async with self._begin() as tx:
            now: datetime = tx.now
        clocks = {"database": now, "store": stored, "process": datetime.now(UTC)}
        if max(clocks.values()) - min(clocks.values()) > APART:
            said = ", ".join(f"{clock} {at.isoformat(timespec='seconds')}" for clock, at in clocks.items())
            raise ClocksApart(f"nothing is removed while the clocks disagree: {said}")
        return now

    def _old_notes(self, shelf: str, before: datetime) -> list[Note]:
        return [note for note in self._shelves.notes(shelf) if note.owner == self._service and note.at <= before]

    async def _collect(self, digests: Sequence[str], notes: Sequence[Note]) -> int:
        async with self._begin() as tx:
            referred = await self._referred(tx, digests)
        free = set(digests) - referred
        # Of what is referred to, one note is enough.
        newest = {note.digest: note for note in sorted(notes, key=lambda note: note.at) if note.digest in referred}
        surplus = [note for note in notes if note.digest in referred and note != newest[note.digest]]
        mine = [note for note in notes if note.digest in free]
        return await asyncio.to_thread(self._remove, mine, surplus) if mine or surplus else 0

    def _remove(self, mine: Sequence[Note], surplus: Sequence[Note]) -> int:
        shelves = self._shelves
        shared = {note.digest for note in self._left(mine) if note not in set(mine)}
        asides = [aside for digest in {note.digest for note in mine} - shared if (aside := shelves.set_aside(digest))]
        for note in (*mine, *surplus):
            shelves.remove(note.name)
        left = {note.digest for note in self._left(mine)}
        for aside in asides:
            self._settle(aside, put_back=aside.digest in left)
        return len(asides)

    def _left(self, notes: Sequence[Note]) -> list[Note]:
        return [note for shelf in {note.shelf for note in notes} for note in self._shelves.notes(shelf)]

    def _settle(self, aside: Note, *, put_back: bool) -> None:
        if put_back:
            self._shelves.put_back(aside)
        else:
            self._shelves.remove(aside.name)

    def _recover(self, now: datetime) -> int:
        """End what a removal that died has begun, and drop what puts that died have left unfinished."""
        for aside in self._shelves.asides():
            if aside.at <= now - self._settled:
                noted = any(note.digest == aside.digest for note in self._shelves.notes(aside.shelf))
                self._settle(aside, put_back=noted)
        return self._shelves.drop_unfinished(now - self._grace)
