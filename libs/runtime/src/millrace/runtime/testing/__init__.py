"""What tests of services build on: real transactions, real databases, and events passed from service to service."""

import asyncio
import itertools
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from millrace.contracts.event import Event
from millrace.contracts.tasks import TaskDispatched
from millrace.runtime.database import Database, Transactions
from millrace.runtime.envelope import Envelope, headers_of, read_envelope
from millrace.runtime.ids import new_id
from millrace.runtime.migrate import migrate
from millrace.runtime.subscriptions import Subscription
from millrace.runtime.transaction import Transaction

S = TypeVar("S", bound=Transaction)

WAIT_S = 30.0
_POLL_S = 0.02
_count = itertools.count()
_templates: dict[tuple[int, str], str] = {}


class Server(Protocol):
    """A running PostgreSQL, as the tests' session has one."""

    def dsn(self, database: str) -> str:
        """Return how to connect to a database."""

    def create_database(self, name: str, template: str | None = None) -> object:
        """Make a database, as a copy where a template is named."""


async def fresh_database(server: Server, service: str) -> str:
    """Return the DSN of a new database with a service's tables, copied from a template that is made once."""
    key = (id(server), service)
    if key not in _templates:
        name = f"template_{service}_{os.getpid()}"
        server.create_database(name)
        await migrate(server.dsn(name), service, post=True)
        _templates[key] = name
    name = f"{service}_{os.getpid()}_{next(_count)}"
    server.create_database(name, template=_templates[key])
    return server.dsn(name)


@asynccontextmanager
async def store(server: Server, service: str, kind: type[S], task: TaskDispatched | None = None) -> AsyncIterator[S]:
    """Open a real transaction on a database of a service's own, and roll it back.

    Args:
        server: The tests' PostgreSQL.
        service: Whose tables.
        kind: Its Store.
        task: What `tx.task` is, for functions that keep a task's result.
    """
    key = f"{service}_store_{id(server)}"
    dsn = _stores.get(key) or await fresh_database(server, service)
    _stores[key] = dsn

    class RolledBack(Exception):
        pass

    async with Database(dsn, pool_size=2) as database:
        try:
            async with Transactions(database, kind)() as tx:
                if task is not None:
                    tx.task = task
                yield tx
                raise RolledBack  # noqa: TRY301 - leaving by an error is how a transaction rolls back
        except RolledBack:
            pass


_stores: dict[str, str] = {}


async def create_topics(servers: str, topics: Mapping[str, int]) -> None:
    """Make topics, by name and number of partitions; those that exist stay."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        there = set(await admin.list_topics())
        missing = [NewTopic(name, partitions, 1) for name, partitions in topics.items() if name not in there]
        if missing:
            await admin.create_topics(missing)
    finally:
        await admin.close()


async def publish(servers: str, events: Sequence[Event], *, times: int = 1) -> list[Envelope]:
    """Publish events as their owners' relays would, each `times` times under one id; return their envelopes."""
    made = []
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        for event in events:
            headers = headers_of(event, new_id(), datetime.now(UTC), None, "")
            made.append(read_envelope(headers))
            for _ in range(times):
                await producer.send_and_wait(
                    event.topic_name(),
                    event.model_dump_json().encode(),
                    key=event.key().encode(),
                    headers=[(name, value.encode()) for name, value in headers.items()],
                )
    return made


async def until(condition: Callable[[], Awaitable[Any]], *, seconds: float = WAIT_S) -> Any:  # noqa: ANN401 - what it gives
    """Return what `condition` gives once that is true.

    Raises:
        AssertionError: It was not within `seconds`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not (found := await condition()):
        if loop.time() > deadline:
            raise AssertionError(f"not within {seconds} s: {condition}")
        await asyncio.sleep(_POLL_S)
    return found


class Participant:
    """One service as far as `settle` needs it: what it reacts to, and its own database."""

    def __init__(self, subscriptions: Sequence[Subscription], begin: Transactions[Any]) -> None:
        self.subscriptions = subscriptions
        self.begin = begin


async def settle(events: Sequence[Event], *participants: Participant, limit: int = 10_000) -> list[Event]:
    """Pass events from service to service until nothing moves; return all of them, in the order they were told.

    Each event is handled in a real transaction of its listener, and what that emits is passed on after its commit.

    Raises:
        AssertionError: More than `limit` events were told.
    """
    told = list(events)
    pending = deque(events)
    while pending:
        event = pending.popleft()
        for participant in participants:
            for row in participant.subscriptions:
                if isinstance(event, row.event) and event.topic_name() in row.topics:
                    async with participant.begin() as tx:
                        tx.handling(event, read_envelope(headers_of(event, new_id(), tx.now, None, "")))
                        await row.function([event] if row.batch else event, tx)
                    told += tx.emitted
                    pending.extend(tx.emitted)
        if len(told) > limit:
            raise AssertionError(f"more than {limit} events: {[type(event).__name__ for event in told[-10:]]}")
    return told
