"""Queues of teams, whose topics come to be there while a service runs."""

import asyncio
import time
from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError
from millrace.runtime.consume.items import Readers

LOOK_EVERY_S = 2.0
LOOK_S = 5.0


class Queues:
    """Has that read, too, which is said of the tasks of teams' queues.

    Args:
        readers: Who wants that.
        following: Whether anybody does.
    """

    def __init__(self, readers: Readers, *, following: bool) -> None:
        self._readers = readers
        self._following = following
        self._looked_at = 0.0

    async def look(self, consumer: Any) -> None:  # noqa: ANN401 - aiokafka has no types
        """Look now and then which there are; a broker that is away is asked again."""
        if not self._following or time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        with suppress(KafkaError, TimeoutError, OSError):
            async with asyncio.timeout(LOOK_S):
                self._readers.saw(await consumer.topics())
