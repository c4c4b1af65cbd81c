"""What was committed in this process, on its way to the relay: what comes in order is sent without being read again."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MOST_WAITING = 1_000
MOST_WAITING_BYTES = 16 * 1024 * 1024
MOST_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A row of the outbox.

    Attributes:
        partition_key: What decides on its partition; None where that is its key.
        sequence: Its number in its key's stream, from 1; 0 where none is kept.
    """

    id: int
    topic: str
    key: str
    partition_key: str | None
    headers: Mapping[str, str]
    value: bytes
    sequence: int

    def encoded_headers(self) -> list[tuple[str, bytes]]:
        """Return the headers as Kafka takes them."""
        headers = [(name, value.encode()) for name, value in self.headers.items()]
        return [*headers, ("ce_sequence", str(self.sequence).encode())] if self.sequence else headers


class Handover:
    """Rows that were committed here and that the relay has not taken yet; it reads the table for all others.

    Transactions that write the same key commit one after another, but it may be known here in another order. What is
    numbered shows that by its number. What is not, the orders and reports of one task, bears to be overtaken: an order
    that is cancelled leaves nothing to be accepted, whichever comes first, and of two attempts each has its own token.

    Attributes:
        wake: Set when there is something to be sent.
        look: Whether there is something that only the table tells.
    """

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.look = True
        self._open = False
        self._waiting: list[Outgoing] = []
        self._waiting_bytes = 0
        self._numbers: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._read: OrderedDict[int, None] = OrderedDict()

    def open(self) -> None:
        """Keep what is given from now on: there is a relay here that sends."""
        self._open, self.look = True, True

    def close(self) -> None:
        """Keep nothing more, and forget what waits and what was sent: it is in the table."""
        self._open = False
        self._drop()
        self.look = True
        self._numbers.clear()
        self._read.clear()

    def give(self, rows: Sequence[Outgoing]) -> None:
        """Take over what was committed, as far as there is room."""
        if self._open and len(self._waiting) < MOST_WAITING and self._waiting_bytes < MOST_WAITING_BYTES:
            self._waiting += rows
            self._waiting_bytes += sum(len(row.value) for row in rows)
        else:
            self.look = True
        self.wake.set()

    def look_again(self, *_: object) -> None:
        """Have the table looked at: another process has committed something, or this one stops."""
        self.look = True
        self.wake.set()

    def begin_look(self) -> None:
        """Leave what waits to the table, which is looked at now: all of that has been committed."""
        self._drop()
        self.look = False

    def take(self) -> list[Outgoing]:
        """Return what waits and comes next in its stream, in order; `look` where some of it does not."""
        waiting = sorted(self._waiting, key=lambda row: row.id)
        self._drop()
        taken: list[Outgoing] = []
        for row in waiting:
            if row.id in self._read:
                continue
            if row.sequence and row.sequence != self._numbers.get((row.topic, row.key), 0) + 1:
                self.look = True
                return taken
            self._note(row)
            taken.append(row)
        return taken

    def read(self, rows: Iterable[Outgoing]) -> None:
        """Note what was read from the table: it is sent from there."""
        for row in rows:
            self._note(row)
            self._read[row.id] = None
        while len(self._read) > MOST_REMEMBERED:
            self._read.popitem(last=False)

    def _drop(self) -> None:
        self._waiting, self._waiting_bytes = [], 0

    def _note(self, row: Outgoing) -> None:
        if row.sequence:
            place = (row.topic, row.key)
            self._numbers[place] = row.sequence
            self._numbers.move_to_end(place)
            if len(self._numbers) > MOST_REMEMBERED:
                self._numbers.popitem(last=False)
