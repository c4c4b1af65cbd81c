"""What our consumers and producers go by."""

from asyncio import Future
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError

ANSWER_S = 10.0
"""How long a broker may take to answer. Whoever waits longer for one that is frozen learns that much later who has
taken over from it."""


async def give(producer: AIOKafkaProducer, topic: str, value: bytes, **how: Any) -> Future[Any]:  # noqa: ANN401
    """Give a record to a producer, once it has room behind what it has already; return its acknowledgement to come.

    aiokafka waits for room as long as for an answer, so that a batch whose broker is frozen would fail what comes after
    it just before it is sent to another one.

    However long that takes: whoever calls this sets a bound.

    Raises:
        KafkaError: It cannot be sent.
    """
    while True:
        with suppress(KafkaTimeoutError):  # of what is raised here, nothing was taken
            acknowledged: Future[Any] = await producer.send(topic, value, **how)
            return acknowledged
