"""Records of foreign topics as events: CloudEvents 1.0 in binary and structured mode, and plain JSON."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from millrace.control.commands import MAX_DATA_BYTES, carries_tasks, read_json
from millrace.core.pointer import PointerMissing, parse_pointer, resolve
from millrace.core.triggers import Event, Source
from millrace.runtime.errors import InvalidInput
from millrace.runtime.subscriptions import Record

MAX_NAME_CHARS = 1024
STRUCTURED = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Received:
    """An event with what its sender says of it.

    Attributes:
        traceparent: The trace that it belongs to, which may be empty.
        namespace: The only namespace that it is for; empty for all that read its topic.
    """

    event: Event
    traceparent: str
    namespace: str = ""


def read_record(record: Record, source: Source) -> Received:
    """Return the event in a record.

    Raises:
        InvalidInput: It is not one in the source's format; the message says what is missing or wrong.
    """
    headers = _headers(record)
    if source.format == "json":
        found = _plain(record, source, headers)
    elif headers.get("content-type", "").startswith(STRUCTURED):
        found = _structured(record)
    else:
        found = _binary(record, headers)
    _check_size(found.event)
    return found


def topics_of_patterns(patterns: Mapping[str, bool], there: Iterable[str]) -> dict[str, bool]:
    """Return which of the topics that are there are of a pattern, and whether any of theirs reads from the start.

    The broker's own topics and those of tasks are of none.
    """
    sources = [(Source(topic=name), from_start) for name, from_start in patterns.items() if "*" in name]
    found: dict[str, bool] = {}
    for topic in sorted(there):
        starts = [from_start for source, from_start in sources if source.reads(topic)]
        if starts and not topic.startswith("__") and not carries_tasks(topic):
            found[topic] = any(starts)
    return found


def happened_at(event: Event, came_at: datetime) -> datetime:
    """Return an event's own time; when it came, where what it says is no time with its offset."""
    try:
        told = datetime.fromisoformat(event.time)
        return told.astimezone(UTC) if told.tzinfo else came_at
    except (ValueError, OverflowError):
        return came_at


def size_of(event: Event) -> int:
    """Return how much data an event has, bytes."""
    return len(json.dumps(event.data))


def _binary(record: Record, headers: Mapping[str, str]) -> Received:
    attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce_")}
    content_type = headers.get("content-type", "application/json")
    if not record.value:
        data = None
    elif "json" in content_type:
        data = _json(record.value)
    else:
        data = _text(record.value, "value")
    return _cloud_event(record, attributes, data, headers.get("traceparent", ""))


def _structured(record: Record) -> Received:
    document = _json(record.value or b"")
    if not isinstance(document, dict):
        raise InvalidInput("a structured CloudEvent is a JSON object")
    if "data_base64" in document:
        raise InvalidInput("data_base64 is not read; send data as JSON, or a reference to it")
    attributes = {name: value for name, value in document.items() if name != "data" and value is not None}
    wrong = [name for name, value in attributes.items() if not isinstance(value, str | int | bool)]
    if wrong:
        raise InvalidInput(f"CloudEvents attribute {wrong[0]} is not text, a number or a boolean")
    texts = {name: str(value) for name, value in attributes.items()}
    return _cloud_event(record, texts, document.get("data"), texts.get("traceparent", ""))


def _cloud_event(record: Record, attributes: Mapping[str, str], data: Any, traceparent: str) -> Received:  # noqa: ANN401 - JSON
    missing = [name for name in ("specversion", "id", "source", "type") if not attributes.get(name)]
    if missing:
        raise InvalidInput(f"CloudEvents attributes missing: {', '.join(missing)}")
    if attributes["specversion"] != "1.0":
        raise InvalidInput(f"CloudEvents specversion is {attributes['specversion']!r}; 1.0 is read")
    event = Event(
        id=attributes["id"],
        source=attributes["source"],
        type=attributes["type"],
        subject=attributes.get("subject", ""),
        time=attributes.get("time", "") or _timestamp(record),
        data=data,
    )
    return Received(event, attributes.get("traceparent", "") or traceparent, attributes.get("namespace", ""))


def _plain(record: Record, source: Source, headers: Mapping[str, str]) -> Received:
    document = _json(record.value or b"")
    if not isinstance(document, dict):
        raise InvalidInput("the value is not a JSON object")
    event_id = f"{record.partition}/{record.offset}"
    if source.id is not None:
        try:
            found = resolve(document, parse_pointer(source.id))
        except PointerMissing as error:
            raise InvalidInput(f"the value has no id: {error}") from error
        if isinstance(found, dict | list) or found is None or found == "":
            raise InvalidInput(f"the id at {source.id} is not text or a number")
        event_id = str(found)
    event = Event(
        id=event_id,
        source=f"/kafka/{record.topic}",
        type=source.type or record.topic,
        subject=_text(record.key, "key") if record.key else "",
        time=_timestamp(record),
        data=document,
    )
    return Received(event, headers.get("traceparent", ""), headers.get("ce_namespace", ""))


def _headers(record: Record) -> dict[str, str]:
    return {name.lower(): _text(value, f"header {name}") for name, value in record.headers if value is not None}


def _text(value: bytes, what: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the {what} is not UTF-8") from error
    if "\0" in text:
        raise InvalidInput(f"the {what} holds a NUL character")
    return text


def _json(value: bytes) -> Any:  # noqa: ANN401 - a JSON value is any value
    return read_json(_text(value, "value"), "the value")


def _check_size(event: Event) -> None:
    for part in (event.id, event.source, event.type, event.subject, event.time):
        if len(part) > MAX_NAME_CHARS:
            raise InvalidInput(f"an attribute has {len(part)} characters; at most {MAX_NAME_CHARS} are read")
    if (size := size_of(event)) > MAX_DATA_BYTES:
        raise InvalidInput(f"the data has {size} bytes, more than {MAX_DATA_BYTES}: send a reference to it")


def _timestamp(record: Record) -> str:
    return datetime.fromtimestamp(record.timestamp_ms / 1000, UTC).isoformat()
