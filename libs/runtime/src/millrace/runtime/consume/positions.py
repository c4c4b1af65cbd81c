"""Where reading begins, and what is said and done when what was to be read is gone."""

import asyncio
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError
from millrace.contracts.catalogue import catalogue
from millrace.runtime.consume.items import Readers
from millrace.runtime.errors import Unavailable
from millrace.runtime.telemetry import CONSUMER_LAG, EVENTS_EXPIRED, OFFSETS_OUT_OF_RANGE, TOPIC_MISSING
from millrace.runtime.topics import AS_THE_OTHERS, create_topics

LOOK_EVERY_S = 10.0
LOOK_S = 5.0

log = structlog.get_logger()


class Positions:
    """Decides where a service reads on.

    What the group noted comes first; a new reader begins where its row says; what was deleted or has expired before it
    was read is an alert, and reading goes on with the earliest record that is left.
    """

    def __init__(self, service: str, servers: str, readers: Readers) -> None:
        self._service = service
        self._servers = servers
        self._readers = readers
        self._doubtful: set[str] = set()
        self._gone: set[str] = set()
        self._anew: set[str] = set()
        self._looked_at = 0.0
        self._beginning = asyncio.Lock()

    async def begin(self, consumer: Any, assigned: Iterable[TopicPartition]) -> None:  # noqa: ANN401 - aiokafka has no types
        """Give a position to each partition that the group has noted none for."""
        try:
            async with self._beginning:
                await self._begin(consumer, list(assigned))
        except KafkaError as error:
            # Asked for records of it, the consumer says which partition has no position, and it is tried again.
            log.warning("positions_not_found", service=self._service, error=type(error).__name__)

    async def _begin(self, consumer: Any, places: Sequence[TopicPartition]) -> None:  # noqa: ANN401
        noted = await consumer.noted(places)
        new = {place for place in places if noted[place] is None}
        late = {place.topic for place in new} & (self._readers.start_now() - self._anew)
        everywhere = {TopicPartition(topic, n) for topic in late for n in consumer.partitions_for_topic(topic) or ()}
        noted = await consumer.noted(new | everywhere)
        # Where the group has begun, a partition that has no offset was added since: all of it is new.
        begun = {place.topic for place in everywhere if noted[place] is not None}
        ends = await consumer.end_offsets([place for place in everywhere if place.topic not in begun])
        others = [place for place in new - ends.keys() if noted[place] is None]
        found = {**noted, **ends, **await consumer.beginning_offsets(others)}
        for place in new:
            consumer.seek(place, found[place])
        # Noted at once, so that a crash before the first event does not skip what comes meanwhile, and for all members
        # together, so that none takes what was there for what was added.
        if ends:
            await consumer.note(ends)

    def open(self, consumer: Any, failing: Container[TopicPartition]) -> None:  # noqa: ANN401
        """Read on everywhere but where a try is waited for or no more can be taken."""
        full = self._readers.full()
        for place in consumer.paused():
            if place not in failing and place.topic not in full:
                consumer.resume(place)
        if full:
            consumer.pause(*(place for place in consumer.assignment() if place.topic in full))

    async def mend(self, consumer: Any, error: KafkaError) -> dict[TopicPartition, int]:  # noqa: ANN401
        """Give partitions a position that have none, or none that is left; return what is to be noted.

        Args:
            consumer: The group's member.
            error: That a partition has no position, or that what was to be read is not there.
        """
        if isinstance(error, NoOffsetForPartitionError):
            await self.begin(consumer, error.args)
            return {}
        return await self._resync(consumer, error.args[0])

    async def returned(self, consumer: Any, topics: frozenset[str]) -> set[str]:  # noqa: ANN401
        """Look now and then whether all topics exist, have missing ones made; return those that are there again."""
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return set()
        self._looked_at = time.monotonic()
        try:
            async with asyncio.timeout(LOOK_S):
                # Twice in a row: a broker that has just started may not know all of them yet.
                missing: set[str] = set(topics - await consumer.topics())
        except (KafkaError, TimeoutError, OSError):
            return set()  # the broker is away, not its topics
        gone, back = missing & self._doubtful, self._gone - missing
        for topic in gone:
            TOPIC_MISSING.labels(self._service, topic).inc()
            log.error("topic_missing", service=self._service, topic=topic)
        back |= await self._make_again(gone)
        for topic in back:
            log.warning("topic_returned", service=self._service, topic=topic)
        self._doubtful, self._gone = missing - back, gone - back
        self._anew |= back
        if back:
            await consumer.refresh()
            await self.begin(consumer, [place for place in consumer.assignment() if place.topic in back])
        return back

    async def measure_lag(self, consumer: Any) -> None:  # noqa: ANN401
        """Say of each topic how many of its events wait for this member."""
        behind: dict[str, int] = {}
        for place in consumer.assignment():
            end = consumer.highwater(place)
            if end is not None:
                read = await consumer.position(place)
                behind[place.topic] = behind.get(place.topic, 0) + max(0, end - read)
        for topic, events in behind.items():
            CONSUMER_LAG.labels(self._service, topic).set(events)

    async def _make_again(self, gone: set[str]) -> set[str]:
        known = [topic for topic in catalogue() if topic.name in gone]
        if not known:
            return set()
        try:
            async with asyncio.timeout(LOOK_S):
                await create_topics(self._servers, known, replication_factor=AS_THE_OTHERS)
        except (Unavailable, TimeoutError) as error:
            log.warning("topic_not_made", service=self._service, topics=sorted(gone), error=str(error))
            return set()
        return {topic.name for topic in known}

    async def _resync(self, consumer: Any, lost: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:  # noqa: ANN401
        mine = [place for place in lost if place in consumer.assignment()]
        starts: dict[TopicPartition, int] = await consumer.beginning_offsets(mine)
        for place, start in starts.items():
            OFFSETS_OUT_OF_RANGE.labels(self._service, place.topic).inc()
            EVENTS_EXPIRED.labels(self._service, place.topic).inc(max(0, start - lost[place]))
            log.error(
                "offset_out_of_range",
                service=self._service,
                topic=place.topic,
                partition=place.partition,
                wanted=lost[place],
                earliest=start,
                skipped=max(0, start - lost[place]),
            )
            consumer.seek(place, start)
        return starts
