"""Events per second through the runtime, beside a hand-written floor that does the same work.

Every mode reads the same events from the real broker; each has its effect once (inbox), writes one row and emits one
event, which is measured until the broker has it. The floor does that with raw aiokafka and asyncpg: one `getmany`, one
insert each for inbox, rows and outbox, one commit, one round of sends, one delete. Rounds are interleaved, and the
median is taken. A backlog of five times as many events is to go as fast, in flat memory.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from millrace.contracts.data import VersionPublished
from millrace.contracts.feature import ViewApplied
from millrace.runtime.consume import Consumer, Readers
from millrace.runtime.database import Database, Transactions
from millrace.runtime.envelope import headers_of
from millrace.runtime.ids import new_id
from millrace.runtime.outbox import Relay
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import Subscription, on, on_batch
from millrace.runtime.testing import create_topics, fresh_database, until
from millrace.runtime.transaction import Transaction
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.ports import free_ports
from millrace.sdk.stack.postgres import Postgres
from rich.console import Console
from rich.table import Table

from tests.benchmarks.bars import tell
from tests.faults.backlog import MIB, Drain

AT_LEAST = {"on_batch_over_floor": 0.5, "on_over_floor": 0.4, "on_over_single": 10, "backlog_over_on_batch": 0.8}
AT_MOST = {"receive_p99_ms": 20, "backlog_growth_mib": 32}
EVENTS = 20_000
BACKLOG = 100_000
LOOK_S = 0.25
SINGLE_EVENTS = 1_000
ROUNDS = 3
KEYS = 500
LATENCIES = 600
RATE_S = 0.01
PARTITIONS = 4

EFFECT = "CREATE TABLE effect (dataset text NOT NULL, partition text NOT NULL)"
ROW = "INSERT INTO effect (dataset, partition) VALUES ($1, $2)"

Mode = Callable[[str, str, int], Awaitable[float]]


class Effects(Transaction):
    """A store with one table."""

    def add(self, event: VersionPublished) -> None:
        """Write the one row."""
        self.write(ROW, event.dataset, event.partition)


async def note(event: VersionPublished, tx: Effects) -> None:
    """Write one row and emit one event."""
    tx.add(event)
    tx.emit(ViewApplied(namespace="demo", view=event.dataset, view_hash=event.partition))


async def note_all(events: Sequence[VersionPublished], tx: Effects) -> None:
    """Write and emit for a whole batch."""
    for event in events:
        tx.add(event)
        tx.emit(ViewApplied(namespace="demo", view=event.dataset, view_hash=event.partition), cause=event)


def settings_of(dsn: str, servers: str) -> ServiceSettings:
    """Return settings that name the servers; nothing else is used."""
    nowhere = Path("/nonexistent")
    return ServiceSettings(
        postgres_dsn=dsn,
        kafka_servers=servers,
        artifacts_url="file:///nonexistent",
        auth_jwks=nowhere,
        auth_grants=nowhere,
        token_file=nowhere,
    )


def through_runtime(row: Subscription, *, one_by_one: bool = False) -> Mode:
    """Return a mode that runs the runtime's consumer and relay until all that is emitted has been sent."""

    async def run(dsn: str, servers: str, count: int) -> float:
        settings = settings_of(dsn, servers)
        async with Database(dsn) as database:
            begin = Transactions(database, Effects)
            readers = Readers()
            readers.subscribe(row)
            consumer = Consumer(f"bench-{new_id()}", settings, begin, readers=readers, one_by_one=one_by_one)
            relay = Relay(database, settings, "bench")

            async def sent() -> bool:
                if consumer.handled < count:
                    return False
                async with begin() as tx:
                    return not await tx.fetch("SELECT 1 FROM outbox LIMIT 1")

            began = time.perf_counter()
            running = [asyncio.create_task(consumer.run()), asyncio.create_task(relay.run())]
            await until(sent, seconds=300)
            took = time.perf_counter() - began
            consumer.stop()
            relay.stop()
            await asyncio.gather(*running)
            return count / took

    return run


async def by_hand(dsn: str, servers: str, count: int) -> float:
    """Do the same work without the runtime."""
    connection = await asyncpg.connect(dsn)
    reader = AIOKafkaConsumer(
        "data.versions",
        bootstrap_servers=servers,
        group_id=f"bench-{new_id()}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    began = time.perf_counter()
    done = 0
    async with reader, producer:
        while done < count:
            found = await reader.getmany(timeout_ms=1000, max_records=1000)
            records = [record for some in found.values() for record in some]
            if records:
                await _floor_batch(records, connection, producer)
                await reader.commit({place: some[-1].offset + 1 for place, some in found.items()})
                done += len(records)
    await connection.close()
    return count / (time.perf_counter() - began)


async def _floor_batch(records: Sequence[Any], connection: asyncpg.Connection, producer: AIOKafkaProducer) -> None:
    ids, rows, out = [], [], []
    for record in records:
        headers = dict(record.headers)
        ids.append(headers["ce_id"].decode())
        value = json.loads(record.value)
        rows.append((value["dataset"], value["partition"]))
        told = json.dumps({"namespace": "demo", "view": value["dataset"], "view_hash": value["partition"]})
        event_id = str(new_id())
        meta = {
            "ce_specversion": "1.0",
            "ce_id": event_id,
            "ce_type": "millrace.feature.ViewApplied",
            "ce_source": "/millrace/feature",
            "ce_subject": value["dataset"],
            "ce_time": datetime.now(UTC).isoformat(),
            "ce_namespace": "demo",
            "ce_causationid": ids[-1],
            "content-type": "application/json",
        }
        out.append(("feature.views", value["dataset"], json.dumps(meta), told.encode()))
    async with connection.transaction():
        await connection.execute("INSERT INTO inbox (event_id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING", ids)
        await connection.execute(
            "INSERT INTO effect SELECT * FROM unnest($1::text[], $2::text[])", *map(list, zip(*rows, strict=True))
        )
        written = await connection.fetch(
            "INSERT INTO outbox (topic, key, headers, value) SELECT t, k, h::jsonb, v "
            "FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) AS u(t, k, h, v) RETURNING id",
            *map(list, zip(*out, strict=True)),
        )
    pending = [
        await producer.send(topic, value, key=key.encode(), headers=_encoded(meta)) for topic, key, meta, value in out
    ]
    await asyncio.gather(*pending)
    await connection.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", [row["id"] for row in written])


def _encoded(headers: str) -> list[tuple[str, bytes]]:
    return [(name, value.encode()) for name, value in json.loads(headers).items()]


async def latencies(dsn: str, servers: str) -> list[float]:
    """Return milliseconds from commit to receipt, of single events at a steady rate."""
    settings = settings_of(dsn, servers)
    received: dict[str, float] = {}
    committed: dict[str, float] = {}
    async with Database(dsn) as database:
        begin = Transactions(database, Transaction)
        relay = Relay(database, settings, "bench")
        relaying = asyncio.create_task(relay.run())
        async with AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False) as reader:
            reader.assign([TopicPartition("feature.views", n) for n in range(PARTITIONS)])
            await reader.seek_to_end()

            async def receive() -> None:
                while len(received) < LATENCIES:
                    for some in (await reader.getmany(timeout_ms=1000)).values():
                        received.update((json.loads(record.value)["view_hash"], time.perf_counter()) for record in some)

            receiving = asyncio.create_task(receive())
            for n in range(LATENCIES):
                mark = f"latency {n}"
                async with begin() as tx:
                    tx.emit(ViewApplied(namespace="demo", view=f"k{n % KEYS}", view_hash=mark))
                committed[mark] = time.perf_counter()
                await asyncio.sleep(RATE_S)
            await asyncio.wait_for(receiving, 60)
        relay.stop()
        await relaying
    return sorted((received[mark] - at) * 1000 for mark, at in committed.items())


async def drained(mode: Mode, dsn: str, servers: str) -> Drain:
    """Return how a mode works off a backlog, beside what this process takes of memory meanwhile."""
    drain, began, process = Drain(BACKLOG), time.perf_counter(), psutil.Process()
    working = asyncio.create_task(mode(dsn, servers, BACKLOG))
    while not working.done():
        drain.rss.append((time.perf_counter() - began, process.memory_info().rss / MIB))
        await asyncio.wait([working], timeout=LOOK_S)
    drain.seconds = BACKLOG / working.result()
    return drain


async def fill(servers: str, count: int, first: int = 0) -> None:
    """Publish the events that every mode reads."""
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=5) as producer:
        pending = []
        for n in range(first, count):
            event = VersionPublished(
                namespace="demo",
                dataset=f"k{n % KEYS}",
                partition=str(n),
                version_id=str(n),
                contract="c",
                contract_hash="h",
                source_uri="file:///x",
                source_sha256="s",
                good_rows=1,
                quarantined_rows=0,
                landed_at=datetime.now(UTC),
            )
            headers = headers_of(event, new_id(), datetime.now(UTC), None, "")
            encoded = [(name, value.encode()) for name, value in headers.items()]
            value = event.model_dump_json().encode()
            pending.append(await producer.send("data.versions", value, key=event.key().encode(), headers=encoded))
        await asyncio.gather(*pending)


async def measure(postgres: Postgres, servers: str) -> tuple[dict[str, list[float]], Drain]:
    """Return each mode's rates, and the latencies; and how a backlog was worked off."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), processors=[])
    await create_topics(servers, {"data.versions": PARTITIONS, "feature.views": PARTITIONS})
    await fill(servers, EVENTS)

    async def database() -> str:
        dsn = await fresh_database(postgres, "runtime")
        connection = await asyncpg.connect(dsn)
        await connection.execute(EFFECT)
        await connection.close()
        return dsn

    modes: dict[str, tuple[Mode, int]] = {
        "floor": (by_hand, EVENTS),
        "on_batch": (through_runtime(on_batch(VersionPublished, note_all, start="earliest")), EVENTS),
        "on": (through_runtime(on(VersionPublished, note, start="earliest")), EVENTS),
    }
    rates: dict[str, list[float]] = {name: [] for name in (*modes, "single")}
    console = Console(stderr=True)
    for n in range(ROUNDS):
        for name, (mode, count) in modes.items():
            rates[name].append(await mode(await database(), servers, count))
            console.print(f"round {n + 1} of {ROUNDS}: {name} {rates[name][-1]:,.0f} events/s")
    single = through_runtime(on(VersionPublished, note, start="earliest"), one_by_one=True)
    rates["single"].append(await single(await database(), servers, SINGLE_EVENTS))
    rates["latency_ms"] = await latencies(await database(), servers)
    await fill(servers, BACKLOG, EVENTS)
    backlog = await drained(modes["on_batch"][0], await database(), servers)
    console.print(f"a backlog: {backlog}")
    rates["backlog"] = [backlog.rate]
    return rates, backlog


def main() -> int:
    """Measure, show a table, and end with one line of JSON; return 1 when a bar is missed."""
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        port, controller = free_ports(2)
        postgres = Postgres(folder / "postgres", folder / "postgres.log")
        kafka = Kafka(folder / "kafka", folder / "kafka.log", port=port, controller_port=controller)
        postgres.start()
        try:
            kafka.start()
            rates, backlog = asyncio.run(measure(postgres, kafka.servers))
        finally:
            kafka.stop()
            postgres.stop()
    took = rates.pop("latency_ms")
    middle = {name: statistics.median(found) for name, found in rates.items()}
    table = Table("mode", "events/s", "of the floor")
    for name, rate in middle.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / middle['floor']:.2f}")
    Console(file=sys.stdout).print(table)
    found = {
        "on_batch_over_floor": round(middle["on_batch"] / middle["floor"], 3),
        "on_over_floor": round(middle["on"] / middle["floor"], 3),
        "on_over_single": round(middle["on"] / middle["single"], 1),
        "backlog_over_on_batch": round(backlog.rate / middle["on_batch"], 2),
        "backlog_growth_mib": round(backlog.growth_mib, 1),
        "receive_p50_ms": round(took[len(took) // 2], 2),
        "receive_p99_ms": round(took[int(len(took) * 0.99)], 2),
    }
    return tell(found, at_least=AT_LEAST, at_most=AT_MOST)


if __name__ == "__main__":
    sys.exit(main())
