"""What reads from Kafka: aiokafka's consumer, within a bound of memory."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaError, NodeNotReadyError, OffsetOutOfRangeError, RequestTimedOutError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest
from aiokafka.structs import OffsetAndMetadata
from millrace.runtime.consume.fetched import Fetched, Place, batches
from millrace.runtime.consume.sessions import Asked, FetchSession
from millrace.runtime.kafka import ANSWER_S
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import Record, Unread

STOP_S = 5.0
LONG_ANSWER_S = 40.0
"""How long an answer may take that waits for others, or is large: who joins a group waits until its other members have
ended the rounds that they have at hand, and a fetch brings up to `fetch_bytes` over a link that may be slow."""


class BoundedConsumer(AIOKafkaConsumer):  # type: ignore[misc] # aiokafka publishes no types
    """Reads records whose batches may hold far more than their size says, and asks for them when told to.

    aiokafka decompresses a batch whole, and stands still at one that it cannot read. So each answer to a fetch is made
    safe before aiokafka sees it; it has no other place for that than the client that sends the request.

    Attributes:
        answers: How many fetches have been answered.
    """

    def __init__(self, settings: ServiceSettings, **options: Any) -> None:  # noqa: ANN401 - aiokafka's own
        self._fetch_bytes = settings.fetch_bytes
        self._assignors = len(options.get("partition_assignment_strategy", ()))
        self._unread: dict[Place, Unread] = {}
        self._sessions: defaultdict[int, FetchSession] = defaultdict(FetchSession)
        self._asking = asyncio.Event()
        self._asking.set()
        self.answers = 0
        super().__init__(
            bootstrap_servers=settings.kafka_servers,
            enable_auto_commit=False,
            # Never a reset in silence: `Positions` says where a new reader begins and what is lost.
            auto_offset_reset="none",
            fetch_max_bytes=settings.fetch_bytes,
            max_partition_fetch_bytes=settings.fetch_bytes // 4,
            request_timeout_ms=int(ANSWER_S * 1000),
            **options,
        )
        self._send = self._client.send
        self._client.send = self._sent

    @property
    def asking(self) -> bool:
        """Whether records are fetched now."""
        return self._asking.is_set()

    def ask(self) -> None:
        """Have records fetched, until `rest`.

        Raises:
            KafkaError: What fetches has failed, and does not go on.
        """
        if self._fetcher.error_future.done():
            raise KafkaError("fetching has ended")
        self._asking.set()

    def rest(self) -> None:
        """Have nothing fetched until `ask`; what is on its way comes."""
        self._asking.clear()

    def tell_all(self) -> None:
        """Have the next answers say of every partition where it ends."""
        for session in self._sessions.values():
            session.forget()

    def record(self, found: Any) -> Record:  # noqa: ANN401 - aiokafka has no types
        """Return what was read as a record."""
        unread = self._unread.pop((found.topic, found.partition, found.offset), None)
        return Record(
            found.topic,
            found.partition,
            found.offset,
            found.key,
            found.value,
            tuple(found.headers),
            found.timestamp,
            unread,
        )

    async def stop(self) -> None:
        """Disconnect, after a moment for what is under way: a member whose group waits for another waits no longer."""
        try:
            await asyncio.wait_for(super().stop(), STOP_S)
        except TimeoutError:
            # In the order of aiokafka's own, which was cut short at the first of these.
            if self._group_id is not None:
                await self._coordinator._stop_heartbeat_task()  # noqa: SLF001
            await self._fetcher.close()
            await self._client.close()

    async def refresh(self) -> None:
        """Learn at once which partitions there are, rather than when what is known is too old."""
        await self._client.force_metadata_update()

    async def noted(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        """Return the offsets that the group has noted, as of one moment."""
        found = await self._coordinator.fetch_committed_offsets(list(places))
        offsets = {place: found[place].offset if place in found else -1 for place in places}
        return {place: None if offset < 0 else offset for place, offset in offsets.items()}

    async def note(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note offsets for the group, whichever of its members has the partitions; aiokafka takes the own ones only."""
        subscription = self._subscription.subscription
        noted = {place: OffsetAndMetadata(offset, "") for place, offset in offsets.items()}
        await self._coordinator.commit_offsets(subscription and subscription.assignment, noted)

    async def has(self, place: TopicPartition) -> bool:
        """Return whether a partition is there at all."""
        cluster = await self._client.fetch_all_metadata()
        return place.partition in (cluster.partitions_for_topic(place.topic) or ())

    async def _sent(self, node_id: int, request: Any, **options: Any) -> Any:  # noqa: ANN401 - likewise
        if isinstance(request, JoinGroupRequest) and len(request._group_protocols) < self._assignors:  # noqa: SLF001
            # aiokafka joins once for each assignor, with one more each time, and goes by the last answer alone; each
            # join takes the former one's place, which has the other members join again, and so on for ever.
            return SimpleNamespace(error_code=0)
        if isinstance(request, FetchRequest):
            return await self._fetched(node_id, request, options)
        if isinstance(request, JoinGroupRequest | SyncGroupRequest):
            return await self._patiently(node_id, request, options)
        return await self._send(node_id, request, **options)

    async def _patiently(self, node_id: int, request: Any, options: dict[str, Any]) -> Any:  # noqa: ANN401 - likewise
        """Send what may take long to be answered: aiokafka's client has one bound for all.

        Raises:
            KafkaError: There is no connection, or no answer in time.
        """
        if not await self._client.ready(node_id, **options):
            raise NodeNotReadyError
        group = options.get("group", ConnectionGroup.DEFAULT)
        connection = self._client._conns[node_id, group]  # noqa: SLF001
        connection._request_timeout = LONG_ANSWER_S  # noqa: SLF001
        try:
            answer = connection.send(request)  # which goes by the bound of this moment
            if group != ConnectionGroup.COORDINATION:
                # Behind a join all waits: a broker answers what it is asked on a connection one after another.
                connection._request_timeout = ANSWER_S  # noqa: SLF001
            return await answer
        except TimeoutError:
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise RequestTimedOutError from None
        finally:
            connection._request_timeout = ANSWER_S  # noqa: SLF001

    async def _fetched(self, node_id: int, request: FetchRequest, options: dict[str, Any]) -> Any:  # noqa: ANN401 - likewise
        await self._asking.wait()
        session = self._sessions[node_id]
        for asked in (session.request(request) for _ in range(2)):
            answer = await self._patiently(node_id, asked, options)
            if session.answered(asked, answer):
                break
        else:
            raise for_code(answer.error_code)
        self.answers += 1
        found = [batch for _, parts in answer.topics for part in parts for batch in batches(part[-1] or b"")]
        if all(batch.plain() for batch in found):
            return answer
        fetched = Fetched(self._fetch_bytes, self._fetch_bytes // 4)
        if any(batch.codec for batch in found):
            # In any order: what comes first may use up what may be decompressed.
            mixed = random.sample(answer.topics, len(answer.topics))
            mixed = [(topic, random.sample(parts, len(parts))) for topic, parts in mixed]
            answer.topics = await asyncio.to_thread(_safe, mixed, asked.asked, fetched)
        else:
            answer.topics = _safe(answer.topics, asked.asked, fetched)
        self._unread |= fetched.unread
        return answer


class Reader:
    """Reads single records again, by their place."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._consumer = BoundedConsumer(settings)

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: The broker does not answer.
        """
        await self._consumer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def record_at(self, topic: str, partition: int, offset: int) -> Record | None:
        """Return the record at a place; nothing where it is no longer there, or not yet."""
        place = TopicPartition(topic, partition)
        if offset < 0 or not await self._consumer.has(place):
            return None
        self._consumer.assign([place])
        if offset >= (await self._consumer.end_offsets([place]))[place]:
            return None
        self._consumer.seek(place, offset)
        try:
            found = await self._consumer.getone(place)
        except OffsetOutOfRangeError:
            return None
        return self._consumer.record(found) if found.offset == offset else None


def _safe(topics: Any, asked: Asked, fetched: Fetched) -> list[Any]:  # noqa: ANN401 - likewise
    return [
        (
            topic,
            [
                (*part[:-1], fetched.safe(topic, part[0], asked[topic, part[0]][0], part[-1]) if part[-1] else part[-1])
                for part in parts
            ],
        )
        for topic, parts in topics
    ]
