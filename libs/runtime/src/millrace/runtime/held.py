"""What could not be handled is a row: kept with its reason, to be replayed or dropped."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
from millrace.runtime.subscriptions import Record
from millrace.runtime.transaction import Transaction

KEPT_BYTES = 64 * 1024
MAX_REASON = 2000

State = Literal["dead", "parked"]
"""Dead: nobody waits for it. Parked: it waits behind an event of its key that failed, or is that event."""

PLACE = 'topic = $1 AND partition = $2 AND "offset" = $3'
HOLD = """
INSERT INTO held (consumer, topic, partition, "offset", namespace, key, event_id, type, headers, value, size_bytes,
    sha256, reason, attempts, state, timestamp_ms, claimed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
ON CONFLICT (consumer, topic, partition, "offset") DO NOTHING
"""
FORGET = f"DELETE FROM held WHERE {PLACE} AND consumer = $4"
FAILED_AGAIN = f"UPDATE held SET attempts = attempts + 1, reason = $5 WHERE {PLACE} AND consumer = $4"
BURY = f"UPDATE held SET attempts = attempts + 1, reason = $5, state = 'dead' WHERE {PLACE} AND consumer = $4"


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
    """Keep a record that cannot be handled, once.

    What is parked is kept whole, as it is to be handled in any case; of what is dead, the first 64 KiB. What this
    transaction has not `claimed` in the inbox is so before it is handled.
    """
    texts = {name: _text(value) for name, value in record.headers}
    value = record.value or b""
    lost = record.unread if record.value is None else None
    tx.write(
        HOLD,
        consumer,
        record.topic,
        record.partition,
        record.offset,
        texts.get("ce_namespace", ""),
        record.key,
        texts.get("ce_id", ""),
        texts.get("ce_type", ""),
        [
            [storable(name), None if value is None else base64.b64encode(value).decode()]
            for name, value in record.headers
        ],
        None if lost else value if state == "parked" else value[:KEPT_BYTES],
        lost.size_bytes if lost else len(value),
        lost.sha256 if lost else hashlib.sha256(value).hexdigest(),
        storable(reason)[:MAX_REASON],
        attempts,
        state,
        record.timestamp_ms,
        claimed,
    )


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


def forget(tx: Transaction, consumer: str, records: Sequence[Record]) -> None:
    """Take records out of the table."""
    for record in records:
        tx.write(FORGET, record.topic, record.partition, record.offset, consumer)


def failed_again(tx: Transaction, consumer: str, record: Record, reason: str) -> None:
    """Note that a record could not be handled this time either, and why."""
    tx.write(FAILED_AGAIN, record.topic, record.partition, record.offset, consumer, storable(reason)[:MAX_REASON])


def bury(tx: Transaction, consumer: str, record: Record, reason: str) -> None:
    """Note that a parked record can never be handled, so that nothing waits for it."""
    tx.write(BURY, record.topic, record.partition, record.offset, consumer, storable(reason)[:MAX_REASON])


def _text(value: bytes | None) -> str:
    return storable((value or b"").decode(errors="replace"))[:1000]


def storable(text: str) -> str:
    """Return a text without the one character that PostgreSQL does not store."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def headers_text(headers: Any) -> dict[str, str]:  # noqa: ANN401 - a jsonb column
    """Return a held record's headers as far as they can be shown."""
    return {name: _text(None if value is None else base64.b64decode(value)) for name, value in headers}
