"""How a page of the outbox is sent: in order, and until all of it is acknowledged."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner
from millrace.runtime.handover import Outgoing
from millrace.runtime.kafka import ANSWER_S, give, started
from millrace.runtime.settings import ServiceSettings

START_S = 20.0
SEND_TIMEOUT_S = 30.0
KEEP_S = 3.0
"""How often whoever waits for a page does something else meanwhile."""


async def new_producer(settings: ServiceSettings, client_id: str) -> AIOKafkaProducer:
    """Return a started producer: every send is acknowledged by all replicas, and none is doubled by a retry."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_servers,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        request_timeout_ms=int(ANSWER_S * 1000),
        # Room for most pages: what finds none waits, at most as long as for an answer.
        max_batch_size=512 * 1024,
        # Else who seldom sends asks a broker that has long been frozen.
        metadata_max_age_ms=10_000,
        max_request_size=2 * 1024 * 1024,
    )
    return await asyncio.wait_for(started(producer), START_S)


async def send_all(
    producer: AIOKafkaProducer, rows: Sequence[Outgoing], meanwhile: Callable[[], Awaitable[None]]
) -> None:
    """Send a page in order and wait until all of it is acknowledged.

    Args:
        producer: What sends.
        rows: The page.
        meanwhile: What to do every few seconds until then.

    Raises:
        KafkaError: A record was refused.
        TimeoutError: The broker did not acknowledge in time; what was sent is unknown.
    """
    sending = asyncio.ensure_future(_send_all(producer, rows))
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            while not (await asyncio.wait([sending], timeout=KEEP_S))[0]:
                await meanwhile()
        await sending
    finally:
        if not sending.done():
            sending.cancel()
            with suppress(asyncio.CancelledError, KafkaError):
                await sending


async def _send_all(producer: AIOKafkaProducer, rows: Sequence[Outgoing]) -> None:
    # Looked up for the whole page first: asked for a topic that is new to it, aiokafka forgets who leads those that it
    # has not been asked for, and what was given to it for them would expire.
    partitions = [await _partition(producer, row) for row in rows]
    sending, sent = asyncio.current_task(), list[asyncio.Future[Any]]()

    def stop_at(one: asyncio.Future[Any]) -> None:
        # What comes after a row that has failed, and waits for room yet, must not overtake it.
        if sending and _failure(one):
            sending.cancel()

    try:
        for row, partition in zip(rows, partitions, strict=True):
            headers = row.encoded_headers()
            one = await give(producer, row.topic, row.value, key=row.key.encode(), headers=headers, partition=partition)
            one.add_done_callback(stop_at)
            sent.append(one)
        await asyncio.gather(*sent)
    except asyncio.CancelledError:
        if failure := next(filter(None, map(_failure, sent)), None):
            raise failure from None
        raise


def _failure(one: asyncio.Future[Any]) -> BaseException | None:
    """Return why a row was not taken, as far as that is known."""
    return one.exception() if one.done() and not one.cancelled() else None


async def _partition(producer: AIOKafkaProducer, row: Outgoing) -> int:
    """Return the partition that a row's partition key leads to, or its key where it has none of its own."""
    key = row.key if row.partition_key is None else row.partition_key
    return _place(key, tuple(sorted(await producer.partitions_for(row.topic))))


@lru_cache(maxsize=1024)
def _place(key: str, partitions: tuple[int, ...]) -> int:
    """Return which of the partitions is a key's, by the rule of all of Kafka's clients.

    Asked by aiokafka, it is worked out again for each of the events of a key.
    """
    place: int = DefaultPartitioner()(key.encode(), partitions, partitions)
    return place
