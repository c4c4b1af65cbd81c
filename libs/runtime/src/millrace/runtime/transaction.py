"""One transaction on a service's own database: state, inbox, outbox and answer, all or nothing."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import asyncpg
from millrace.contracts.event import Event
from millrace.contracts.tasks import TaskDispatched
from millrace.runtime.envelope import MAX_EMITTED_BYTES, Envelope, headers_of
from millrace.runtime.errors import InvalidInput, NotFound
from millrace.runtime.handover import Outgoing
from millrace.runtime.ids import new_id
from millrace.runtime.statements import AS_MANY, EMIT, EMIT_UNNUMBERED, together
from millrace.runtime.traceparent import current_traceparent
from pydantic_core import to_json


class UnexpectedError(Exception):
    """What a transaction took for new or for known was not; nothing of it is left."""


def one(rows: Sequence[asyncpg.Record], what: str) -> asyncpg.Record:
    """Return the only row.

    Raises:
        NotFound: There is none; `what` names it, with its id.
    """
    if not rows:
        raise NotFound(f"{what} does not exist")
    return rows[0]


class Transaction:
    """What a service's Store builds on; it lives as long as one database transaction.

    Attributes:
        now: One instant for all that the transaction writes: PostgreSQL's `now()`, or where it hopes, its time as this
            process carries it on.
        opening: What the query that it was opened with returned; there only where it does not hope.
        hopes: Whether it may take for granted what is nearly always so, and has the statement that writes find out: it
            is begun anew, without hope, where that was wrong.
        emitted: The events emitted so far, in order.
        written: Those of them that are in the outbox.
        begun: Whether it is more than one statement.
        task: The task whose result is being kept; only where one is.
    """

    now: datetime
    opening: asyncpg.Record
    task: TaskDispatched

    def __init__(self, connection: asyncpg.Connection, *, hopes: bool = False) -> None:
        self.hopes = hopes
        self.emitted: list[Event] = []
        self.written: list[Outgoing] = []
        self.used_refs: list[str] = []
        self.made_refs: dict[str, dict[str, Any]] = {}
        self._connection = connection
        self.begun = not hopes
        self._writes: dict[str, list[tuple[Any, ...]]] = {}
        self._last: dict[str, tuple[Any, ...]] = {}
        self._hoped: list[tuple[str, tuple[Any, ...]]] = []
        self._outgoing: list[tuple[str, str, str | None, dict[str, str], bytes, bool, bool]] = []
        self._after: list[Callable[[], None]] = []
        self._envelopes: dict[int, Envelope] = {}
        self._cause: Envelope | None = None

    def new_id(self) -> UUID:
        """Return a new UUIDv7, of the database's time."""
        return new_id(self.now.timestamp())

    def write(self, sql: str, *row: Any) -> None:  # noqa: ANN401 - whatever the statement takes
        """Queue one row of a statement.

        Rows of one statement leave together, statements in the order of their first row, before the next read or at
        commit. Where one statement must see another's rows of the same table in between, read in between.
        """
        self._writes.setdefault(sql, []).append(row)

    def write_last(self, sql: str, *row: Any) -> None:  # noqa: ANN401 - likewise
        """Queue a statement that leaves in one with the events, and with others like it.

        It must have no WITH of its own, and touch no row that another of them touches, nor see what that wrote: they
        are done in any order. One that is queued a second time sends the first before it.
        """
        if sql in self._last:
            self.write(sql, *self._last.pop(sql))
        self._last[sql] = row

    def hope(self, sql: str, *row: Any, rows: int | None = None) -> None:  # noqa: ANN401 - likewise
        """Queue a statement as `write_last` does, for the end: no read sees it.

        It fails the transaction, and all is done again without hope, where something else is there than is hoped for.

        Args:
            sql: The statement.
            row: Its parameters.
            rows: How many rows it is hoped to return; whatever they are, where it is not given.
        """
        self._hoped.append((sql, row))
        if rows is not None:
            self._hoped.append((AS_MANY, (sql.split(maxsplit=1)[0], rows)))

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:  # noqa: ANN401 - likewise
        """Return the rows of a query, which sees all that was written before it."""
        await self._begin()
        if self._writes:
            await self._send_writes()
        if self._last:
            await self._connection.execute(*self._taken())
        rows: list[asyncpg.Record] = await self._connection.fetch(sql, *args)
        return rows

    def emit(self, event: Event, cause: Event | None = None) -> None:
        """State a fact, as part of this transaction.

        Args:
            event: What became true.
            cause: Of a batch, the event that led to it; the event being handled is known anyway.

        Raises:
            InvalidInput: It is too large for a broker, which would hold up all that is emitted after it.
        """
        known = self._envelopes.get(id(cause)) if cause is not None else self._cause
        headers = headers_of(
            event,
            self.new_id(),
            self.now,
            known.event_id if known else None,
            (known.traceparent if known and known.traceparent else "") or current_traceparent(),
        )
        topic, key = event.topic_name(), event.key()
        value = event.model_dump_json().encode()
        if len(value) > MAX_EMITTED_BYTES:
            name = type(event).__name__
            raise InvalidInput(f"{name} {key} has {len(value)} bytes, more than {MAX_EMITTED_BYTES}")
        self._outgoing.append(
            (topic, key, event.partition_key(), headers, value, not _is_task_topic(topic), event.lingers())
        )
        self.emitted.append(event)

    def on_commit(self, function: Callable[[], None]) -> None:
        """Call `function` once the transaction is committed; never when it is not, and not after a crash.

        What it asks for in turn is not called.
        """
        self._after.append(function)

    def used(self, ref: str) -> None:
        """Say, for lineage, that the task at hand read something."""
        self.used_refs.append(ref)

    def made(self, ref: str, **facts: Any) -> None:  # noqa: ANN401 - whatever is worth showing
        """Say, for lineage, that the task at hand made something, with facts worth showing."""
        self.made_refs[ref] = facts

    def handling(self, event: Event | None, envelope: Envelope | None) -> None:
        """Note which event is being handled, so that what is emitted names its cause and goes on with its trace."""
        self._cause = envelope
        if event is not None and envelope is not None:
            self._envelopes[id(event)] = envelope

    def envelope_of(self, event: Event) -> Envelope | None:
        """Return what is known of how an event that is being handled came here."""
        return self._envelopes.get(id(event))

    @asynccontextmanager
    async def part(self) -> AsyncIterator[Self]:
        """Open a transaction within this one: when anything in it raises, nothing of it is left, here or in memory."""
        await self._begin()
        await self._send()  # not what is hoped: what fails in here may be forgiven
        await self._connection.execute("SAVEPOINT part")
        part = type(self)(self._connection)
        part.now = self.now
        try:
            yield part
            await part.flush()
            await self._connection.execute("RELEASE SAVEPOINT part")
        except BaseException as error:
            part.let_go()
            if isinstance(error, Exception):
                await self._connection.execute("ROLLBACK TO SAVEPOINT part")
            raise
        self.emitted += part.emitted
        self.written += part.written
        self._after += part.let_go()

    async def settle(self) -> None:
        """Send all that is queued, before the same rows are written again; what was hoped is known then."""
        await self._begin()
        await self.flush()

    async def flush(self) -> None:
        """Send all that is queued, the events after what is written in statements of its own."""
        hoped, self._hoped = self._hoped, []
        await self._send(hoped)

    async def commit(self) -> None:
        """Commit; what was one statement stands already."""
        if self.begun and await self._connection.execute("COMMIT") != "COMMIT":
            raise UnexpectedError("a statement of it had failed")

    def committed(self) -> None:
        """Call what waits for the commit."""
        for function in self.let_go():
            function()

    def let_go(self) -> list[Callable[[], None]]:
        """Return what waits for the commit, no longer held: it holds the transaction, and that all of its events."""
        after, self._after = self._after, []
        return after

    async def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            await self._connection.execute("BEGIN")

    async def _send(self, hoped: Sequence[tuple[str, tuple[Any, ...]]] = ()) -> None:
        if self._writes:
            await self._begin()
            await self._send_writes()
        if self._outgoing:
            await self._send_outgoing(hoped)
        elif self._last or hoped:
            await self._connection.execute(*self._taken(hoped))

    async def _send_outgoing(self, hoped: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
        outgoing, self._outgoing = self._outgoing, []
        topics, keys, partition_keys, headers, events, numbered, _ = zip(*outgoing, strict=True)
        columns = (topics, keys, partition_keys, [to_json(some).decode() for some in headers], events)
        emit = (EMIT, (*columns, numbered)) if any(numbered) else (EMIT_UNNUMBERED, columns)
        rows = await self._connection.fetch(*self._taken([*hoped, emit]))
        self.written += [
            Outgoing(row["id"], topic, key, partition_key, some, event, int(row["sequence"] or 0), lingers)
            for row, (topic, key, partition_key, some, event, _, lingers) in zip(rows, outgoing, strict=True)
        ]

    def _taken(self, more: Sequence[tuple[str, tuple[Any, ...]]] = ()) -> tuple[Any, ...]:
        """Empty what is written last; return it with more as one statement, and the parameters of that."""
        last, self._last = self._last, {}
        queued = [*last.items(), *more]
        return together(*(sql for sql, _ in queued)), *(value for _, row in queued for value in row)

    async def _send_writes(self) -> None:
        writes, self._writes = self._writes, {}
        for sql, rows in writes.items():
            if len(rows) == 1:
                await self._connection.execute(sql, *rows[0])
            else:
                await self._connection.executemany(sql, rows)


def _is_task_topic(topic: str) -> bool:
    return topic.endswith(".tasks") or topic.startswith("control.tasks.")
