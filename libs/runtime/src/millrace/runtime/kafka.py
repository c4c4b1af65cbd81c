"""What our consumers and producers go by."""

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

ANSWER_S = 10.0
"""How long a broker may take to answer. Whoever waits longer for one that is frozen learns that much later who has
taken over from it."""
END_S = 5.0

_ending: set[asyncio.Task[None]] = set()


async def give(producer: AIOKafkaProducer, topic: str, value: bytes, **how: Any) -> asyncio.Future[Any]:  # noqa: ANN401
    """Give a record to a producer, once it has room behind what it has already; return its acknowledgement to come.

    aiokafka waits for room as long as for an answer, so that a batch whose broker is frozen would fail what comes after
    it just before it is sent to another one.

    However long that takes: whoever calls this sets a bound.

    Raises:
        KafkaError: It cannot be sent.
    """
    while True:
        with suppress(KafkaTimeoutError):  # of what is raised here, nothing was taken
            acknowledged: asyncio.Future[Any] = await producer.send(topic, value, **how)
            return acknowledged


async def started(producer: AIOKafkaProducer) -> AIOKafkaProducer:
    """Start a producer and return it; one that does not start, or is not waited for, leaves nothing behind."""
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer


async def end(producer: AIOKafkaProducer) -> None:
    """End a producer, for a moment at most: one whose broker is away ends when that is back.

    Cancelled while it waits for the broker, it would keep its connections and its task for ever.
    """
    ending = asyncio.create_task(_stop(producer))
    _ending.add(ending)
    ending.add_done_callback(_ending.discard)
    await asyncio.wait([ending], timeout=END_S)


async def _stop(producer: AIOKafkaProducer) -> None:
    with suppress(KafkaError):
        await producer.stop()
