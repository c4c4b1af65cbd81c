"""How an event travels: CloudEvents 1.0, Kafka binary mode."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from millrace.contracts.event import Event, all_events
from millrace.runtime.command import faults
from millrace.runtime.errors import InvalidInput
from millrace.runtime.ids import read_id
from pydantic import ValidationError

REQUIRED = ("ce_specversion", "ce_id", "ce_type", "ce_source")
MAX_VALUE_BYTES = 1024 * 1024
MAX_EMITTED_BYTES = MAX_VALUE_BYTES - 64 * 1024  # with its headers and Kafka's frame, still what any broker takes
MAX_UNIX_MS = 253_402_300_799_999  # the last millisecond of the year 9999
UNIX_MS_SHIFT = 80  # a UUIDv7 begins with 48 bits of Unix time in milliseconds
UUID7 = 7

_EVENTS = all_events()
_PUBLISHERS = {cls.publisher() for cls in _EVENTS.values()}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the transaction that emitted an event says of it.

    Attributes:
        event_id: A UUIDv7 made in the publisher's transaction.
        sequence: The event's number in its key's stream, from 1; 0 where none is kept.
        cause: Id of the event that led to this one, if any.
        traceparent: W3C trace context, or empty.
    """

    event_id: UUID
    type: str
    source: str
    subject: str
    namespace: str
    sequence: int
    cause: UUID | None
    traceparent: str

    @property
    def emitted_at(self) -> datetime:
        """Return when its id was made."""
        return datetime.fromtimestamp((self.event_id.int >> UNIX_MS_SHIFT) / 1000, UTC)


class UnknownTypeError(Exception):
    """A type that a known publisher added later: to be skipped and counted."""


def headers_of(event: Event, event_id: UUID, time: datetime, cause: UUID | None, traceparent: str) -> dict[str, str]:
    """Return an event's headers, all but its number in the stream, which the database gives."""
    headers = {
        **_same_of(type(event), event.topic_name()),
        "ce_id": str(event_id),
        "ce_subject": event.key(),
        "ce_time": time.isoformat(),
        "ce_namespace": event.namespace,
    }
    if cause:
        headers["ce_causationid"] = str(cause)
    if traceparent:
        headers["traceparent"] = traceparent
    return headers


@lru_cache(maxsize=1024)
def _same_of(cls: type[Event], topic: str) -> dict[str, str]:
    """Return the headers that all events of a class on a topic share."""
    return {
        "ce_specversion": "1.0",
        "ce_type": cls.type_name(),
        "ce_source": f"/millrace/{topic.partition('.')[0]}",
        "content-type": "application/json",
    }


def read_headers(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Return a record's headers as text.

    Raises:
        InvalidInput: A header is null or not UTF-8.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if value is None:
            raise InvalidInput(f"header {name} is null")
        try:
            found[name] = value.decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"header {name} is not UTF-8") from None
    return found


def read_envelope(headers: Mapping[str, str]) -> Envelope:
    """Return what an event's headers say.

    Raises:
        InvalidInput: An attribute is missing or malformed.
    """
    missing = [name for name in REQUIRED if not headers.get(name)]
    if missing:
        raise InvalidInput(f"CloudEvents attributes missing: {', '.join(missing)}")
    if headers["ce_specversion"] != "1.0":
        raise InvalidInput(f"ce_specversion is {headers['ce_specversion'][:20]}, not 1.0")
    try:
        event_id = read_id(headers["ce_id"])
        cause = read_id(headers["ce_causationid"]) if headers.get("ce_causationid") else None
        sequence = int(headers.get("ce_sequence", "0"))
    except ValueError:
        raise InvalidInput("ce_id and ce_causationid are UUIDs and ce_sequence is a number") from None
    if event_id.version != UUID7:
        raise InvalidInput(f"ce_id {event_id} is no UUIDv7: its age cannot be told")
    if event_id.int >> UNIX_MS_SHIFT > MAX_UNIX_MS:
        raise InvalidInput(f"ce_id {event_id} names a time after the year 9999")
    return Envelope(
        event_id=event_id,
        type=headers["ce_type"],
        source=headers["ce_source"],
        subject=headers.get("ce_subject", ""),
        namespace=headers.get("ce_namespace", ""),
        sequence=sequence,
        cause=cause,
        traceparent=headers.get("traceparent", ""),
    )


def read_event(envelope: Envelope, value: bytes | None) -> Event:
    """Return the event in a record's value.

    Raises:
        InvalidInput: It is empty, too large, not JSON, or does not satisfy its class.
        UnknownTypeError: Its publisher is known and its type is not.
    """
    if not value:
        raise InvalidInput("the value is empty")
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidInput(f"the value has {len(value)} bytes, more than {MAX_VALUE_BYTES}")
    cls = _EVENTS.get(envelope.type)
    if cls is None:
        prefix, _, rest = envelope.type.partition(".")
        if prefix == "millrace" and rest.partition(".")[0] in _PUBLISHERS:
            raise UnknownTypeError(envelope.type)
        raise InvalidInput(f"no publisher is known for type {envelope.type[:200]}")
    try:
        return cls.model_validate_json(value)
    except ValidationError as error:
        raise InvalidInput(f"{cls.__name__}: {faults(error)}") from None


def too_old(envelope: Envelope, now: datetime, horizon: timedelta) -> bool:
    """Return whether an event is older than the inbox remembers, so that a duplicate could not be told."""
    return envelope.emitted_at < now - horizon


def loads(value: bytes) -> object:
    """Return parsed JSON.

    Raises:
        InvalidInput: It is not JSON in UTF-8.
    """
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise InvalidInput("the value is not JSON in UTF-8") from None
