"""What could not be handled is a row: kept with its reason, to be replayed or dropped."""

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from millrace.runtime.errors import NotFound
from millrace.runtime.subscriptions import Record
from millrace.runtime.transaction import Transaction

KEPT_BYTES = 64 * 1024
MAX_REASON = 2000

HOLD = """
INSERT INTO held (consumer, topic, partition, "offset", namespace, key, event_id, type, headers, value, size_bytes,
    sha256, reason, attempts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (consumer, topic, partition, "offset") DO NOTHING
"""
TAKE = 'DELETE FROM held WHERE topic = $1 AND partition = $2 AND "offset" = $3 RETURNING *'
FAILED_AGAIN = (
    'UPDATE held SET attempts = attempts + 1, reason = $4 WHERE topic = $1 AND partition = $2 AND "offset" = $3'
)


@dataclass(frozen=True)
class Coordinates:
    """Where a record stands in Kafka."""

    topic: str
    partition: int
    offset: int


def hold(tx: Transaction, consumer: str, record: Record, reason: str, attempts: int = 1) -> None:
    """Keep a record that cannot be handled, once."""
    texts = {name: _text(value) for name, value in record.headers}
    value = record.value or b""
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
        value[:KEPT_BYTES],
        len(value),
        hashlib.sha256(value).hexdigest(),
        storable(reason)[:MAX_REASON],
        attempts,
    )


async def take(tx: Transaction, at: Coordinates) -> tuple[Record, bool]:
    """Return a held record, out of the table, and whether its value was kept whole.

    Raises:
        NotFound: No such record is held.
    """
    rows = await tx.fetch(TAKE, at.topic, at.partition, at.offset)
    if not rows:
        raise NotFound(f"nothing is held of {at.topic} partition {at.partition} offset {at.offset}")
    row = rows[0]
    record = Record(
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        key=row["key"],
        value=row["value"],
        headers=tuple((name, None if value is None else base64.b64decode(value)) for name, value in row["headers"]),
        timestamp_ms=0,
    )
    return record, row["size_bytes"] <= KEPT_BYTES


def failed_again(tx: Transaction, at: Coordinates, reason: str) -> None:
    """Note that a replay failed, and why."""
    tx.write(FAILED_AGAIN, at.topic, at.partition, at.offset, storable(reason)[:MAX_REASON])


def _text(value: bytes | None) -> str:
    return storable((value or b"").decode(errors="replace"))[:1000]


def storable(text: str) -> str:
    """Return a text without the one character that PostgreSQL does not store."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def headers_text(headers: Any) -> dict[str, str]:  # noqa: ANN401 - a jsonb column
    """Return a held record's headers as far as they can be shown."""
    return {name: _text(None if value is None else base64.b64decode(value)) for name, value in headers}
