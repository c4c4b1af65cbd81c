"""The relay: what transactions emitted goes to Kafka, in order, at least once."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from asyncpg.prepared_stmt import PreparedStatement
from millrace.contracts.catalogue import catalogue
from millrace.runtime.connection import LOST
from millrace.runtime.database import CHANNEL, Database
from millrace.runtime.errors import Unavailable
from millrace.runtime.failpoints import failpoint
from millrace.runtime.handover import Outgoing
from millrace.runtime.kafka import end
from millrace.runtime.sending import new_producer, send_all
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.telemetry import OUTBOX_AGE, OUTBOX_EVENTS, OUTBOX_SENT, TOPIC_MISSING
from millrace.runtime.topics import AS_THE_OTHERS, create_topics

MEASURE_EVERY_S = 10.0
PAGE_ROWS = 1000
FORGET_ROWS = 100
POLL_S = 5.0
"""How often the outbox is looked at for what nobody has told of: who committed it died before. The session, which is
lost once it idles, is kept by it too."""
STANDBY_S = 3.0
STANDBY_BUSY_S = 1.0
"""How often a relay without the lock tries to have it, where nothing is committed in its process, and where much is."""
TELL_EVERY_S = 0.004
"""How often it tells the one that has it of what is committed in its process, which each time looks at the table."""
IDLE = "10s"
"""After how long without a query the session is lost."""
LINGER_S = 0.02
MAKE_TIMEOUT_S = 30.0
RETRY_S = 0.5
LOCK = 7_316_241_150  # any number, the same for every relay

COLUMNS = "id, topic, key, partition_key, headers::text AS headers, value"
# Ids may be committed out of order, so those that were sent are named: a cursor would lose those that come late.
PAGE = f"""
WITH sent AS (DELETE FROM outbox WHERE id = ANY($1::bigint[]))
SELECT {COLUMNS} FROM outbox
WHERE id <> ALL($1::bigint[]) AND id <> ALL($2::bigint[]) ORDER BY id LIMIT {PAGE_ROWS}
"""

TRY = "SELECT pg_try_advisory_lock($1) AS ours, current_setting('transaction_read_only') = 'off' AS writable"
WAITING = (
    "SELECT count(*) AS events, coalesce(extract(epoch FROM now() - min(written_at)), 0)::float AS age_s FROM outbox"
)

log = structlog.get_logger()


class Relay:
    """Sends one database's outbox; of several processes the one that holds the lock does."""

    def __init__(self, database: Database, settings: ServiceSettings, name: str) -> None:
        self._database = database
        self._handover = database.handover
        self._settings = settings
        self._name = name
        self._stopping = False

    async def run(self) -> None:
        """Relay until stopped; a lost connection or broker is waited for."""
        while not self._stopping:
            try:
                await self._with_lock()
            except (KafkaError, asyncpg.PostgresError, TimeoutError, *LOST) as error:
                log.warning("relay_interrupted", error=type(error).__name__)
                if isinstance(error, UnknownTopicOrPartitionError):
                    await self._make_topics()
                self._handover.wake.clear()
                await self._wait(RETRY_S)

    def stop(self) -> None:
        """End after the page at hand and a last look."""
        self._stopping = True
        self._handover.let_go()
        self._handover.look_again()

    async def _with_lock(self) -> None:
        # Before the lock: a broker that is frozen may be asked first, and is waited for longer than a session may idle.
        producer = await new_producer(self._settings, f"{self._name}-relay")
        try:
            # A frozen relay loses its session, and with it the lock; what it sends late, the inbox drops.
            # A deletion that a crash of the server undoes is a page sent twice, so that none waits for the disk.
            connection = await self._database.connect(idle_session_timeout=IDLE, synchronous_commit="off")
            try:
                await self._with_session(connection, producer)
            finally:
                with suppress(TimeoutError, asyncpg.PostgresError, *LOST):
                    await asyncio.wait_for(connection.close(), 2)
                connection.terminate()
        finally:
            await end(producer)

    async def _with_session(self, connection: asyncpg.Connection, producer: AIOKafkaProducer) -> None:
        # Before the lock: between the two trips of a first use, no timeout of idleness runs, and who is frozen there
        # with the lock would keep it.
        page, waiting = [await connection.prepare(sql) for sql in (PAGE, WAITING)]
        await connection.add_listener(CHANNEL, _ignore)
        for channel, told in self._database.listeners.items():
            await connection.add_listener(channel, partial(_call, told))
        while not await self._lock(connection):
            if self._stopping:
                return
            await self._stand_by(connection)
        await connection.add_listener(CHANNEL, self._handover.look_again)  # which is listened to: no trip
        # Without its session the lock is another's: what waits is not sent any more.
        connection.add_termination_listener(self._handover.look_again)
        self._handover.open()
        try:
            await failpoint("outbox.locked")
            await self._relay(page, waiting, producer)
        finally:
            self._handover.close()
            self._tell(0, 0)  # whoever has the lock next measures it
            await end(producer)  # while nobody else sends

    async def _stand_by(self, connection: asyncpg.Connection) -> None:
        """Tell whoever has the lock of what is committed here, until it is to be tried for again."""
        until = time.monotonic() + STANDBY_BUSY_S
        while time.monotonic() < until and await self._wait(STANDBY_S):
            self._handover.wake.clear()
            # Outside of any transaction: those that notify commit one after another.
            await connection.execute(f"NOTIFY {CHANNEL}")
            if self._stopping:
                return
            await asyncio.sleep(TELL_EVERY_S)

    async def _lock(self, connection: asyncpg.Connection) -> bool:
        tried = await connection.fetchrow(TRY, LOCK)
        if tried["writable"]:
            self._database.wrote()
        return bool(tried["ours"])

    async def _relay(self, page: PreparedStatement, waiting: PreparedStatement, producer: AIOKafkaProducer) -> None:
        sent: list[int] = []
        looked_at = measured_at = 0.0
        while True:
            self._handover.wake.clear()
            stopping, now = self._stopping, time.monotonic()
            looks = self._handover.look or len(sent) >= FORGET_ROWS or now - looked_at > POLL_S
            if looks:
                looked_at = now
                lingering = self._handover.begin_look()
                rows = [_row(found) for found in await page.fetch(sent, lingering)]
                self._database.wrote()
                if sent:
                    await failpoint("outbox.deleted")
                sent = []
                self._handover.look |= len(rows) == PAGE_ROWS
                rows = self._handover.read(rows)
            else:
                rows = self._handover.take()
            if rows:
                if now - measured_at > MEASURE_EVERY_S:
                    measured_at = now
                    await self._measure(waiting)
                sent += [row.id for row in rows]
                await failpoint("outbox.read")
                # Measured meanwhile, the session does not idle.
                await send_all(producer, rows, partial(self._measure, waiting))
                await failpoint("outbox.after_send")
                OUTBOX_SENT.inc(len(rows))
            elif looks:
                self._tell(0, 0)
                if stopping:
                    return
            # What was sent is deleted when nothing waits to be sent, or when it has become much.
            if not rows and not self._handover.look and not await self._wait(LINGER_S if sent else POLL_S):
                self._handover.look = True

    async def _measure(self, waiting: PreparedStatement) -> None:
        left = await waiting.fetchrow()
        self._tell(left["events"], left["age_s"])

    def _tell(self, events: int, age_s: float) -> None:
        """Measure what waits to be sent."""
        OUTBOX_EVENTS.labels(self._name).set(events)
        OUTBOX_AGE.labels(self._name).set(age_s)

    async def _make_topics(self) -> None:
        """Make those of our topics again that were deleted: nothing behind an event for one of them would be sent."""
        ours = [topic for topic in catalogue() if topic.owner == self._name]
        try:
            async with asyncio.timeout(MAKE_TIMEOUT_S):
                made = await create_topics(self._settings.kafka_servers, ours, replication_factor=AS_THE_OTHERS)
        except (Unavailable, TimeoutError) as error:
            log.warning("topic_not_made", service=self._name, error=str(error))
        else:
            for topic in made:
                TOPIC_MISSING.labels(self._name, topic).inc()
                log.error("topic_missing", service=self._name, topic=topic)

    async def _wait(self, seconds: float) -> bool:
        """Return whether something was committed, after so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._handover.wake.wait()
        return False


def _ignore(*_: object) -> None:
    """Whoever does not send is not told of what is to be sent."""


def _call(told: Callable[[], None], *_: object) -> None:
    told()


def _row(found: asyncpg.Record) -> Outgoing:
    headers = json.loads(found["headers"])
    sequence = int(headers.pop("ce_sequence", 0))
    topic, key, partition_key = found["topic"], found["key"], found["partition_key"]
    return Outgoing(found["id"], topic, key, partition_key, headers, found["value"], sequence)
