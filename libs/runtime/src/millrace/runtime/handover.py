"""What was committed in this process, on its way to the relay: what comes in order is sent without being read again."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_WAITING = 1_000
MOST_WAITING_BYTES = 16 * 1024 * 1024
MOST_REMEMBERED = 20_000
MOST_LINGER_S = 0.1
"""How long what nobody waits for is kept at most for what follows it, seconds."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A row of the outbox.

    Attributes:
        partition_key: What decides on its partition; None where that is its key.
        sequence: Its number in its key's stream, from 1; 0 where none is kept.
        lingers: Nobody waits for it: it leaves with what follows in its partition key, or soon.
    """

    id: int
    topic: str
    key: str
    partition_key: str | None
    headers: Mapping[str, str]
    value: bytes
    sequence: int
    lingers: bool = False

    @property
    def place(self) -> tuple[str, str | None]:
        """Return within what it keeps its place."""
        return (self.topic, self.partition_key)

    def encoded_headers(self) -> list[tuple[str, bytes]]:
        """Return the headers as Kafka takes them."""
        headers = [(name, value.encode()) for name, value in self.headers.items()]
        return [*headers, ("ce_sequence", str(self.sequence).encode())] if self.sequence else headers


class Handover:
    """Rows that were committed here and that the relay has not taken yet; it reads the table for all others.

    Transactions that write the same key commit one after another, but it may be known here in another order. What is
    numbered shows that by its number. What is not, the orders and reports of one task, bears to be overtaken: an order
    that is cancelled leaves nothing to be accepted, whichever comes first, and of two attempts each has its own token.
    The reports of a chain are committed one after another by one process, which gives them here in that order.

    What lingers waits here for what follows it in its partition key, or for a moment; nothing that was committed after
    it with that partition key overtakes it.

    Attributes:
        wake: Set when there is something to be sent.
        look: Whether there is something that only the table tells.
    """

    def __init__(self, linger_s: float = MOST_LINGER_S) -> None:
        self.wake = asyncio.Event()
        self.look = True
        self._open = False
        self._waiting: list[Outgoing] = []
        self._waiting_bytes = 0
        self._linger_s = linger_s
        self._lingering: dict[tuple[str, str | None], list[Outgoing]] = {}
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
        if self._open and self._count() < MOST_WAITING and self._waiting_bytes < MOST_WAITING_BYTES:
            self._waiting_bytes += sum(len(row.value) for row in rows)
            for row in rows:
                self._wait(row)
        else:
            self.look = True
            self.wake.set()

    def _wait(self, row: Outgoing) -> None:
        if row.lingers and not row.sequence:
            if row.place not in self._lingering:
                self._lingering[row.place] = []
                asyncio.get_running_loop().call_later(self._linger_s, self._let_go, row.place)
            self._lingering[row.place].append(row)
        else:
            self._waiting += [*self._lingering.pop(row.place, ()), row]
            self.wake.set()

    def _let_go(self, place: tuple[str, str | None]) -> None:
        if place in self._lingering:
            self._waiting += self._lingering.pop(place)
            self.wake.set()

    def let_go(self) -> None:
        """Have all leave that lingers."""
        for place in [*self._lingering]:
            self._let_go(place)

    def look_again(self, *_: object) -> None:
        """Have the table looked at: another process has committed something, or this one stops."""
        self.look = True
        self.wake.set()

    def begin_look(self) -> list[int]:
        """Leave what waits to the table, which is looked at now; return the ids there of what lingers here."""
        self._taken()
        self.look = False
        return [row.id for rows in self._lingering.values() for row in rows]

    def take(self) -> list[Outgoing]:
        """Return what waits and comes next in its stream, in order; `look` where some of it does not."""
        waiting = self._taken()
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

    def read(self, rows: Sequence[Outgoing]) -> list[Outgoing]:
        """Note what was read from the table; return it, in order, with what lingered and goes before some of it."""
        for row in rows:
            self._note(row)
            self._read[row.id] = None
        while len(self._read) > MOST_REMEMBERED:
            self._read.popitem(last=False)
        last = {row.place: row.id for row in rows}
        for place in last.keys() & self._lingering.keys():
            self._let_go(place)
        # What lingered and comes after all of its place that was read: more of that may be on the next page.
        ahead = [
            row for row in self._waiting if row.lingers and row.id < last.get(row.place, 0) and row.id not in self._read
        ]
        self._read |= dict.fromkeys(row.id for row in ahead)  # so that they are passed over among what waits
        return sorted([*rows, *ahead], key=lambda row: row.id)

    def _count(self) -> int:
        return len(self._waiting) + sum(map(len, self._lingering.values()))

    def _taken(self) -> list[Outgoing]:
        waiting, self._waiting = sorted(self._waiting, key=lambda row: row.id), []
        self._waiting_bytes -= sum(len(row.value) for row in waiting)
        return waiting

    def _drop(self) -> None:
        self._waiting, self._waiting_bytes = [], 0
        self._lingering.clear()

    def _note(self, row: Outgoing) -> None:
        if row.sequence:
            place = (row.topic, row.key)
            self._numbers[place] = row.sequence
            self._numbers.move_to_end(place)
            if len(self._numbers) > MOST_REMEMBERED:
                self._numbers.popitem(last=False)
