"""A store with one table, an event, and settings: what the runtime's tests have in common."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from millrace.contracts.data import VersionPublished
from millrace.contracts.tasks import TaskDispatched
from millrace.runtime.consume import Consumer, Listener, Readers, Replay
from millrace.runtime.database import Transactions
from millrace.runtime.errors import Unavailable
from millrace.runtime.held_pages import Held
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import Subscription
from millrace.runtime.transaction import Transaction

ORDER = TaskDispatched(
    namespace="demo",
    queue="data",
    task_id=uuid4(),
    attempt=1,
    token=uuid4(),
    kind="data.trial",
    input={},
    run_id=uuid4(),
    workflow="w",
    name="t",
    principal="ada",
    deadline=datetime(2100, 1, 1, tzinfo=UTC),
    heartbeat_timeout_s=60.0,
)


class Effects(Transaction):
    """A store with one table: what handlers did."""

    def add(self, name: str) -> None:
        self.write("INSERT INTO effect (name) VALUES ($1)", name)

    async def names(self) -> list[str]:
        return [row["name"] for row in await self.fetch("SELECT name FROM effect ORDER BY place")]


def version(dataset: str, partition: str = "p") -> VersionPublished:
    return VersionPublished(
        namespace="demo",
        dataset=dataset,
        partition=partition,
        version_id=f"{dataset}-{partition}",
        contract="c",
        contract_hash="h",
        source_uri="file:///x",
        source_sha256="s",
        good_rows=1,
        quarantined_rows=0,
        landed_at="2013-01-01T00:00:00Z",
    )


def settings_of(dsn: str, servers: str, folder: Path, instance: int = 0) -> ServiceSettings:
    for name, content in (("jwks", {"keys": []}), ("grants", {}), ("token", "")):
        (folder / name).write_text(json.dumps(content))
    return ServiceSettings(
        postgres_dsn=dsn,
        kafka_servers=servers,
        artifacts_url=folder.as_uri(),
        auth_jwks=folder / "jwks",
        auth_grants=folder / "grants",
        token_file=folder / "token",
        instance=instance,
    )


@asynccontextmanager
async def consuming(
    name: str,
    broker: Any,
    begin: Transactions[Effects],
    tmp_path: Path,
    *rows: Subscription,
    instance: int = 0,
    listener: Listener | None = None,
) -> AsyncIterator[Consumer]:
    settings = settings_of(begin.database._dsn, broker.servers, tmp_path, instance)
    readers = Readers()
    readers.subscribe(*rows)
    if listener:
        readers.listen(listener)
    consumer = Consumer(name, settings, begin, readers=readers, foreign=listener is not None, retry_s=0.05)
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        consumer.stop()
        await asyncio.wait_for(running, 20)


async def effects(begin: Transactions[Effects], prefix: str) -> list[str]:
    async with begin() as tx:
        return [name for name in await tx.names() if name.startswith(prefix)]


async def held(begin: Transactions[Effects]) -> list[Any]:
    async with begin() as tx:
        return await tx.fetch('SELECT * FROM held ORDER BY topic, partition, "offset"')


def is_assigned(consumer: Consumer) -> Any:
    async def assigned() -> bool:
        return consumer.progress.assigned

    return assigned


def count_is(begin: Transactions[Effects], prefix: str, count: int) -> Any:
    async def reached() -> bool:
        try:
            return len(await effects(begin, prefix)) >= count
        except Unavailable:  # a test may have stopped the database
            return False

    return reached


async def replayed(
    consumer: Consumer, name: str, begin: Transactions[Effects], *, accept_duplicate: bool = False
) -> Any:
    """Handle all dead events of a service again."""
    async with begin() as tx:
        rows, _ = await Held(name, {"state": "dead"}).in_order(tx, 500)
        return await replay_of(consumer).page(tx, rows, accept_duplicate=accept_duplicate)


def replay_of(consumer: Consumer) -> Replay:
    """Return what handles held events of a consumer again."""
    return Replay(consumer._service, consumer._settings, consumer.begin.database, consumer._readers)


async def unparked(replay: Replay, begin: Transactions[Effects], topic: str, key: bytes, page: int = 100) -> str:
    """Handle a parked key's events until it flows; return why it does not."""
    while True:
        async with begin() as tx:
            told, flows = await replay.drain(tx, topic, key, page)
        if flows or told.reason:
            return told.reason
