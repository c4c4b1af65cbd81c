"""What could not be handled is a row: kept with its reason, to be replayed or dropped."""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
from millrace.runtime.subscriptions import Record
from millrace.runtime.telemetry import EVENTS_HELD
from millrace.runtime.transaction import Transaction

KEPT_BYTES = 64 * 1024
MAX_REASON = 2000
MAX_TEXT_BYTES = 1000  # an index takes no more than 2704 bytes together

State = Literal["dead", "parked"]
"""Dead: nobody waits for it. Parked: it waits behind an event of its key that failed, or is that event."""

# A topic may be deleted and made again: who holds the place with another record is at no offset any more.
MOVE = """
UPDATE held SET "offset" = -id, reason = left('from a former topic, there at offset ' || "offset" || ': ' || reason, $7)
WHERE consumer = $1 AND topic = $2 AND partition = $3 AND "offset" = $4
    AND (sha256 <> $5 OR key IS DISTINCT FROM $6::bytea)
"""
HOLD = """
INSERT INTO held (consumer, topic, partition, "offset", namespace, key, event_id, type, headers, value, size_bytes,
    sha256, reason, attempts, state, timestamp_ms, claimed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
ON CONFLICT (consumer, topic, partition, "offset") DO NOTHING
"""
FORGET = "DELETE FROM held WHERE id = $1"
FAILED_AGAIN = "UPDATE held SET attempts = attempts + 1, reason = $2 WHERE id = $1"
BURY = "UPDATE held SET attempts = attempts + 1, reason = $2, state = 'dead' WHERE id = $1"


@dataclass(frozen=True)
class Coordinates:
    """Where a record stands in Kafka."""

    topic: str
    partition: int
    offset: int


def hold(
    tx: Transaction,
    consumer: str,
    record: Record,
    reason: str,
    attempts: int = 1,
    *,
    state: State = "dead",
    claimed: bool = True,
) -> None:
    """Keep a record that cannot be handled, once, and count it when this transaction is committed.

    What is parked is kept whole, as it is to be handled in any case; of what is dead, the first 64 KiB. What this
    transaction has not `claimed` in the inbox is so before it is handled.
    """
    texts = {name: text_of(value) for name, value in record.headers}
    value = record.value or b""
    size_bytes, sha256 = content(record)
    place = (consumer, record.topic, record.partition, record.offset)
    tx.write(MOVE, *place, sha256, record.key, MAX_REASON)
    tx.write(
        HOLD,
        *place,
        texts.get("ce_namespace", ""),
        record.key,
        texts.get("ce_id", ""),
        texts.get("ce_type", ""),
        [
            [storable(name), None if value is None else base64.b64encode(value).decode()]
            for name, value in record.headers
        ],
        None if record.value is None and record.unread else value if state == "parked" else value[:KEPT_BYTES],
        size_bytes,
        sha256,
        storable(reason)[:MAX_REASON],
        attempts,
        state,
        record.timestamp_ms,
        claimed,
    )
    tx.on_commit(EVENTS_HELD.labels(record.topic).inc)


def record_of(row: asyncpg.Record) -> Record:
    """Return a held record as it was received, as far as it was kept."""
    return Record(
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        key=row["key"],
        value=row["value"],
        headers=tuple((name, None if value is None else base64.b64decode(value)) for name, value in row["headers"]),
        timestamp_ms=row["timestamp_ms"],
    )


def whole(row: asyncpg.Record) -> bool:
    """Return whether all of a held record's value was kept."""
    return bool(row["sha256"]) and len(row["value"] or b"") == row["size_bytes"]


def content(record: Record) -> tuple[int, str]:
    """Return the size and the SHA-256 of a record's value, as far as they could be told."""
    if record.value is None and record.unread:
        return record.unread.size_bytes, record.unread.sha256
    value = record.value or b""
    return len(value), hashlib.sha256(value).hexdigest()


def forget(tx: Transaction, ids: Iterable[int]) -> None:
    """Take held records out of the table."""
    for held_id in ids:
        tx.write(FORGET, held_id)


def failed_again(tx: Transaction, held_id: int, reason: str) -> None:
    """Note that a record could not be handled this time either, and why."""
    tx.write(FAILED_AGAIN, held_id, storable(reason)[:MAX_REASON])


def bury(tx: Transaction, held_id: int, reason: str) -> None:
    """Note that a parked record can never be handled, so that nothing waits for it."""
    tx.write(BURY, held_id, storable(reason)[:MAX_REASON])


def text_of(value: bytes | None) -> str:
    """Return a header's value as a text that can be stored and found by an index."""
    text = storable((value or b"").decode(errors="replace"))
    return text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")


def storable(text: str) -> str:
    """Return a text without what PostgreSQL does not store: null characters and halves of surrogate pairs."""
    return text.encode(errors="replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")


def headers_text(headers: Any) -> dict[str, str]:  # noqa: ANN401 - a jsonb column
    """Return a held record's headers as far as they can be shown."""
    return {name: text_of(None if value is None else base64.b64decode(value)) for name, value in headers}
