"""What a poll brought, read: events, records of foreign topics, and what cannot be read."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from millrace.contracts.catalogue import queues_in
from millrace.contracts.event import Event
from millrace.runtime.envelope import Envelope, UnknownTypeError, read_envelope, read_event, read_headers, too_old
from millrace.runtime.errors import InvalidInput
from millrace.runtime.inbox import HORIZON
from millrace.runtime.subscriptions import Record, Subscription
from millrace.runtime.telemetry import EVENTS_SKIPPED

Foreign = Callable[[Sequence[Record], Any], Awaitable[None]]
RowsOfQueue = Callable[[str], Iterable[Subscription]]
"""Returns the rows by which what is said of the tasks of a team's queue is taken."""


@dataclass(frozen=True)
class Listener:
    """A function that takes records of foreign topics as received."""

    topics: Callable[[], Iterable[str]]
    function: Foreign
    start: str


@dataclass(frozen=True, eq=False)
class Item:
    """One record to be settled, as one of: an event, a record of a foreign topic, or what cannot be read.

    Attributes:
        held_id: Which row of `held` it is; 0 where it is none.
        claimed: It was held, and its id put into the inbox then.
    """

    record: Record
    envelope: Envelope | None = None
    event: Event | None = None
    rows: tuple[Subscription, ...] = ()
    listener: Listener | None = None
    unreadable: str = ""
    horizon: timedelta = HORIZON
    held_id: int = 0
    claimed: bool = False

    @property
    def wanted(self) -> bool:
        """Whether anybody here takes it."""
        return bool(self.listener or self.rows)

    @property
    def waited_for(self) -> bool:
        """Whether others may wait for what comes of it."""
        return self.event is None or not self.event.lingers()

    @property
    def key(self) -> tuple[str, bytes | None]:
        """Return what its order is kept by."""
        return (self.record.topic, self.record.key)

    @property
    def place(self) -> tuple[str, int, int]:
        """Return where it stands in Kafka: topic, partition, offset."""
        return (self.record.topic, self.record.partition, self.record.offset)

    def too_old(self, now: datetime) -> bool:
        """Return whether the inbox no longer remembers events of its age."""
        return self.envelope is not None and too_old(self.envelope, now, self.horizon)


class Readers:
    """Who in a service takes what: rows of events by topic, and listeners to foreign topics."""

    def __init__(self, horizon: timedelta = HORIZON) -> None:
        self._horizon = horizon
        self._rows: dict[str, list[Subscription]] = {}
        self._full: dict[str, Callable[[], bool]] = {}
        self._listeners: list[Listener] = []
        self._foreign: dict[str, Listener] = {}
        self._of_queue: list[RowsOfQueue] = []
        self._queues: set[str] = set()

    def subscribe(self, *rows: Subscription) -> None:
        """Add rows."""
        for row in rows:
            for topic in row.topics:
                self._rows.setdefault(topic, []).append(row)
                if row.full:
                    self._full[topic] = row.full

    def listen(self, listener: Listener) -> None:
        """Add a listener."""
        self._listeners.append(listener)

    def follow_queues(self, rows: RowsOfQueue) -> None:
        """Add the rows of each queue of a team, once it is seen."""
        self._of_queue.append(rows)

    @property
    def follows(self) -> bool:
        """Whether anybody waits for queues of teams."""
        return bool(self._of_queue)

    def saw(self, topics: Iterable[str]) -> None:
        """Take up the queues of teams whose topics are there."""
        for queue in queues_in(topics):
            if queue not in self._queues:
                self._queues.add(queue)
                self.subscribe(*(row for rows in self._of_queue for row in rows(queue)))

    @property
    def listens(self) -> bool:
        """Whether any listener is there, whatever topics it names now."""
        return bool(self._listeners)

    def own(self) -> frozenset[str]:
        """Return the topics of events."""
        return frozenset(self._rows)

    def foreign(self) -> frozenset[str]:
        """Return the foreign topics to be read now; listeners may have changed theirs."""
        now = {topic: listener for listener in self._listeners for topic in listener.topics()}
        # What was read of a topic that was just dropped is still its listener's.
        self._foreign |= now
        return frozenset(now)

    def start_now(self) -> set[str]:
        """Return the topics in which a new reader begins at the end."""
        late = {topic for topic, rows in self._rows.items() if all(row.start == "now" for row in rows)}
        return late | {topic for topic, listener in self._foreign.items() if listener.start == "now"}

    def full(self) -> set[str]:
        """Return the topics of which no more is to be read for now."""
        return {topic for topic, full in self._full.items() if full()}

    def read(self, record: Record) -> Item:
        """Return a record as what it is to this service."""
        if record.unread:
            return Item(record, unreadable=record.unread.reason)
        if listener := self._foreign.get(record.topic):
            return Item(record, listener=listener)
        try:
            envelope = read_envelope(read_headers(record.headers))
            event = read_event(envelope, record.value)
        except InvalidInput as error:
            return Item(record, unreadable=str(error))
        except UnknownTypeError:
            EVENTS_SKIPPED.labels(record.topic).inc()
            return Item(record)
        rows = tuple(row for row in self._rows.get(record.topic, ()) if isinstance(event, row.event))
        return Item(record, envelope, event, rows, horizon=self._horizon)
