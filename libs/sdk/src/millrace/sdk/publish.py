r"""Tells Millrace what happened: CloudEvents 1.0 on Kafka, from any upstream system.

Nothing here is needed to do so. What `publish` sends can be sent by any Kafka client; with plain kcat:

    echo '{"month": "2013-01", "flights": {"uri": "file:///landing/flights-2013-01.csv", "sha256": "3f…"}}' \
      | kcat -P -b 127.0.0.1:17100 -t triggers -k /nyc/airports \
          -H ce_specversion=1.0 -H ce_id=2013-01 -H ce_source=/nyc/airports -H ce_type=flights.month.landed \
          -H ce_subject=2013-01 -H ce_time=2013-02-01T05:00:00Z -H content-type=application/json

`id` and `source` name the event: the same two again are a repetition, and start nothing a second time.
"""

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber, ProducerClosed, TopicAuthorizationFailedError
from millrace.contracts.portable import portable
from millrace.runtime.command import Command
from millrace.runtime.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from millrace.runtime.ids import new_id
from millrace.runtime.kafka import ANSWER_S, end, give, started
from millrace.runtime.traceparent import current_traceparent
from millrace.sdk.connection import kafka_servers
from pydantic import AwareDatetime, Field

TIMEOUT_S = 30.0
RETRY_S = 0.5
#: What readers take in; larger things travel as a reference.
MAX_DATA_BYTES = 64 * 1024
SPEC_VERSION = "1.0"

Mode = Literal["binary", "structured"]
#: Text of up to 1024 characters, none of them a control character.
Text = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
Name = Annotated[Text, Field(min_length=1)]
#: A Kafka record: its headers and its value.
Record = tuple[list[tuple[str, bytes]], bytes]


class CloudEvent(Command):
    """Something that happened, as CloudEvents 1.0 describes it.

    Attributes:
        type: What kind of thing happened, such as `flights.month.landed`.
        source: Where, as a URI reference such as `/nyc/airports`.
        data: What is to be said of it, JSON; up to 64 KiB.
        id: With `source` the event's name; a UUIDv7 when not given.
        subject: The thing it happened to, such as `2013-01`.
        time: When it happened; now when not given.
        namespace: Whose it is, where the topic's readers do not know it by the topic.
        traceparent: W3C trace context; that of the caller's span when not given.

    Raises:
        InvalidInput: An attribute is empty, too long or holds control characters, or the time has no zone.
    """

    type: Name
    source: Name
    data: Any
    id: Name = Field(default_factory=lambda: str(new_id()))
    subject: Text = ""
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    namespace: Text = ""
    traceparent: Text = Field(default_factory=current_traceparent)

    def attributes(self) -> dict[str, str]:
        """Return its context attributes, without those that are empty."""
        named = {
            "specversion": SPEC_VERSION,
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": self.time.isoformat(),
            "namespace": self.namespace,
            "traceparent": self.traceparent,
        }
        return {name: value for name, value in named.items() if value}

    def binary(self) -> Record:
        """Return it in binary mode: the attributes are headers, the value is the data.

        Raises:
            InvalidInput: The data is not JSON, or larger than 64 KiB.
        """
        headers = {f"ce_{name}": value for name, value in self.attributes().items()}
        traceparent = headers.pop("ce_traceparent", "")
        headers |= {"traceparent": traceparent} if traceparent else {}
        return _encoded(headers | {"content-type": "application/json"}), _json(self.data, self.id)

    def structured(self) -> Record:
        """Return it in structured mode: the value is all of it.

        Raises:
            InvalidInput: The data is not JSON, or larger than 64 KiB.
        """
        _json(self.data, self.id)
        whole = {**self.attributes(), "datacontenttype": "application/json", "data": self.data}
        return _encoded({"content-type": "application/cloudevents+json"}), json.dumps(whole).encode()


class Publisher:
    """A connection to Kafka on which many events are published: `async with Publisher(servers) as publisher`.

    Args:
        servers: Brokers to start from, `host:port`, comma-separated; when not given those of `MILLRACE_KAFKA_SERVERS`,
            or else of the stack in this folder.
        timeout_s: How long to wait, to connect and then for each event's acknowledgement. It is left within 5 s.

    Raises:
        Unavailable: It is not said where Kafka is, or no broker answers there.
    """

    def __init__(self, servers: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        self._servers = kafka_servers() if servers is None else servers
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._spent: AIOKafkaProducer | None = None
        self._renewing = asyncio.Lock()
        self._topics: frozenset[str] = frozenset()

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._timeout_s):
                self._producer = await self._connected()
        except (KafkaError, TimeoutError, ValueError, OSError):
            start = "start it, or the stack with `millrace up`"
            raise Unavailable(f"no Kafka broker answers at {self._servers}: {start}") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await end(producer)  # all that was sent has been waited for

    async def send(self, topic: str, event: CloudEvent, *, key: str | None = None, mode: Mode = "binary") -> None:
        """Return once every replica has the event.

        Args:
            topic: Such as `triggers`.
            event: What to tell.
            key: Events with the same key stay in order; the event's source when not given.
            mode: Whether its attributes travel as headers, or with its data in one JSON object.

        Raises:
            InvalidInput: The data is not JSON, or larger than 64 KiB.
            NotFound: There is no such topic.
            Denied: It may not be written.
            Unavailable: No acknowledgement came in time. The event may be there: send it again, with the same id.
        """
        headers, value = event.binary() if mode == "binary" else event.structured()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(topic, value, (key or event.source).encode(), headers)
        except TopicAuthorizationFailedError:
            raise Denied(f"topic {topic} may not be written") from None
        except (KafkaError, TimeoutError) as error:
            why = f"no acknowledgement came from {self._servers} ({type(error).__name__})"
            raise Unavailable(f"event {event.id}: {why}; send it again with the same id") from None

    async def _send(self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]) -> None:
        while True:
            producer = await self._usable()
            await self._check(topic, producer)
            try:
                await (await give(producer, topic, value, key=key, headers=headers))
            except TopicAuthorizationFailedError:
                raise
            except KafkaError as error:
                if producer is self._producer:
                    self._spent = producer
                # Of these, nothing was taken: it had lost an event before, or was ended for that.
                if not isinstance(error, OutOfOrderSequenceNumber | ProducerClosed):
                    raise
            else:
                return

    async def _usable(self) -> AIOKafkaProducer:
        """Return a producer that has lost nothing.

        Kafka takes nothing more from one that has given up a record to which it had given a number, as aiokafka does
        where a partition has no leader for too long.
        """
        async with self._renewing:
            while (producer := self._producer) is not None:
                if producer is not self._spent:
                    return producer
                await end(producer)  # for a moment, what it has yet to send goes first
                try:
                    renewed = await self._connected()
                except KafkaError:
                    await asyncio.sleep(RETRY_S)  # no broker answers now
                    continue
                if self._producer is None:
                    await end(renewed)  # it was left meanwhile
                else:
                    self._producer = renewed
        raise Conflict("the publisher is not connected: use it in `async with`")

    async def _connected(self) -> AIOKafkaProducer:
        # Made here and not before: aiokafka's producer belongs to the loop that runs.
        return await started(
            AIOKafkaProducer(
                bootstrap_servers=self._servers,
                acks="all",
                enable_idempotence=True,
                # Shorter than the whole, so that what a frozen broker does not answer is asked of whoever takes over.
                request_timeout_ms=int(min(ANSWER_S, self._timeout_s / 2) * 1000),
            )
        )

    async def _check(self, topic: str, producer: AIOKafkaProducer) -> None:
        """Return if the topic is there; sending to one that is not would wait for it until the time is over."""
        while topic not in self._topics:
            try:
                self._topics = frozenset((await producer.client.fetch_all_metadata()).topics())
            except KafkaError:
                if producer is not self._producer:
                    return  # another took its place: to send by this one says so
                await asyncio.sleep(RETRY_S)  # no broker answers now
                continue
            if topic not in self._topics:
                raise NotFound(f"topic {topic} does not exist at {self._servers}, or may not be seen")


async def publish(
    topic: str,
    type: str,  # noqa: A002 - CloudEvents' own name
    source: str,
    data: Any,  # noqa: ANN401 - any JSON value
    *,
    id: str | None = None,  # noqa: A002 - likewise
    subject: str = "",
    time: datetime | None = None,
    namespace: str = "",
    servers: str | None = None,
    key: str | None = None,
    mode: Mode = "binary",
    timeout_s: float = TIMEOUT_S,
) -> CloudEvent:
    """Publish one event and return it, with its id, once every replica has it.

    The arguments are those of `CloudEvent`, `Publisher` and `Publisher.send`, and so are the errors.
    """
    given = {"id": id, "time": time}
    event = CloudEvent(
        type=type,
        source=source,
        data=data,
        subject=subject,
        namespace=namespace,
        **{name: value for name, value in given.items() if value is not None},
    )
    async with Publisher(servers, timeout_s=timeout_s) as publisher:
        await publisher.send(topic, event, key=key, mode=mode)
    return event


def publish_blocking(
    topic: str,
    type: str,  # noqa: A002 - CloudEvents' own name
    source: str,
    data: Any,  # noqa: ANN401 - any JSON value
    **options: Any,  # noqa: ANN401 - those of `publish`
) -> CloudEvent:
    """As `publish`, for code that is not asynchronous."""
    return asyncio.run(publish(topic, type, source, data, **options))


def _json(data: Any, event_id: str) -> bytes:  # noqa: ANN401 - any JSON value
    try:
        text = portable(data)
    except ValueError as error:
        raise InvalidInput(f"the data of event {event_id} cannot be sent: {error}") from None
    if len(text) > MAX_DATA_BYTES:
        size = f"{len(text)} bytes, more than {MAX_DATA_BYTES}"
        raise InvalidInput(f"the data of event {event_id} has {size}: send a reference to it, with its SHA-256")
    return text


def _encoded(headers: dict[str, str]) -> list[tuple[str, bytes]]:
    return [(name, value.encode()) for name, value in headers.items()]
