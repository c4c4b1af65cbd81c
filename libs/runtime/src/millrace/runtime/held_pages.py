"""Held events by filter, page by page, each by an index."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg
from millrace.runtime.errors import InvalidInput
from millrace.runtime.transaction import Transaction

SHOWN = (
    'namespace, topic, partition, "offset", key, event_id, type, reason, attempts, state, sha256, size_bytes, held_at'
)
PLACE = 'topic, partition, "offset"'
NEWEST = 'held_at DESC, topic DESC, partition DESC, "offset" DESC'
MOST_PAGE_BYTES = 16 * 1024 * 1024
# What each filter compares; the value is always an argument.
CLAUSES = {
    "namespace": "namespace = {}",
    "topic": "topic = {}",
    "partition": "partition = {}",
    "offset": '"offset" = {}',
    "key": "sha256(key) = sha256({})",
    "event_id": "event_id = {}",
    "type": "type = {}",
    "reason": "strpos(lower(reason), lower({})) > 0",
    "state": "state = {}",
    "since": "held_at >= {}",
    "until": "held_at < {}",
}
OF_A_KEY = ("namespace", "topic", "key")
"""What can be asked of a parked key itself, whether any event waits behind it or not."""

WAITS = """
EXISTS (SELECT FROM held WHERE topic = k.topic AND sha256(key) = k.key_sha256 AND state = 'parked' AND {})
"""
KEYS = """
SELECT topic, key, namespace, reason, parked_at, (
    SELECT count(*) FROM held h
    WHERE h.consumer = k.consumer AND h.topic = k.topic AND sha256(h.key) = k.key_sha256 AND h.state = 'parked'
) AS events
FROM parked_key k
"""


class Held:
    """The held events of one service that a filter lets through.

    Args:
        consumer: The service.
        wanted: What is asked of them, by the names of `CLAUSES`.
    """

    def __init__(self, consumer: str, wanted: Mapping[str, Any]) -> None:
        self._wanted = dict(wanted)
        self._args = [consumer, *self._wanted.values()]
        self._clauses = {name: CLAUSES[name].format(f"${n}") for n, name in enumerate(self._wanted, start=2)}
        self._where = " AND ".join(("consumer = $1", *self._clauses.values()))

    @property
    def is_one(self) -> bool:
        """Whether the filter names one event."""
        return "event_id" in self._wanted or self._wanted.keys() >= {"topic", "partition", "offset"}

    async def newest(self, tx: Transaction, limit: int, token: str) -> tuple[list[asyncpg.Record], str]:
        """Return a page, newest first, and where the next one begins."""
        args = list(self._args)
        after = ""
        if token:
            at, *place = _read(token, 4)
            after = f"AND (held_at, {PLACE}) < {_places(len(args), 4)}"
            args += [_instant(at), *place]
        sql = f"SELECT {SHOWN} FROM held WHERE {self._where} {after} ORDER BY {NEWEST} LIMIT {limit + 1}"
        rows = await tx.fetch(sql, *args)
        more = len(rows) > limit
        rows = rows[:limit]
        last = rows[-1] if more else None
        return rows, _token(last["held_at"].isoformat(), *_place(last)) if last else ""

    async def in_order(self, tx: Transaction, limit: int, token: str = "") -> tuple[list[asyncpg.Record], str]:
        """Return a page by place, all of each row, locked; and where the next one begins."""
        args = list(self._args)
        after = ""
        if token:
            after = f"AND ({PLACE}) > {_places(len(args), 3)}"
            args += _read(token, 3)
        sql = f"""
        WITH locked AS MATERIALIZED (
            SELECT * FROM held WHERE {self._where} {after} ORDER BY {PLACE} LIMIT {limit} FOR UPDATE
        ), counted AS (
            SELECT *, sum(size_bytes) OVER (ORDER BY {PLACE}) - size_bytes AS before_bytes,
                count(*) OVER () AS found FROM locked
        )
        SELECT * FROM counted WHERE before_bytes < {MOST_PAGE_BYTES} ORDER BY {PLACE}
        """
        rows = await tx.fetch(sql, *args)
        more = bool(rows) and (rows[0]["found"] == limit or len(rows) < rows[0]["found"])
        return rows, _token(*_place(rows[-1])) if more else ""

    async def parked_keys(self, tx: Transaction, limit: int) -> list[tuple[str, bytes]]:
        """Return the parked keys among the first so many events by place."""
        sql = f"""
        SELECT DISTINCT topic, key FROM (SELECT * FROM held WHERE {self._where} ORDER BY {PLACE} LIMIT {limit}) h
        WHERE state = 'parked' ORDER BY topic, key
        """
        return [(row["topic"], row["key"]) for row in await tx.fetch(sql, *self._args)]

    async def keys(self, tx: Transaction, limit: int, token: str) -> tuple[list[asyncpg.Record], str]:
        """Return a page of the parked keys behind which such an event waits, and where the next one begins.

        Where nothing is asked of the events, a key is told also when none waits any more: it still has to be let go.
        """
        topic, _, digest = token.partition("|")
        args = [*self._args, topic, _digest(digest)]
        clauses = ["consumer = $1", *(self._clauses[name] for name in OF_A_KEY if name in self._clauses)]
        if not self._clauses.keys() <= set(OF_A_KEY):
            clauses.append(WAITS.format(self._where))
        clauses.append(f"(topic, key_sha256) > {_places(len(self._args), 2)}")
        rows = await tx.fetch(f"{KEYS} WHERE {' AND '.join(clauses)} ORDER BY topic, key_sha256 LIMIT {limit}", *args)
        last = rows[-1] if len(rows) == limit else None
        return rows, f"{last['topic']}|{hashlib.sha256(last['key']).hexdigest()}" if last else ""

    async def count(self, tx: Transaction) -> int:
        """Return how many there are."""
        found: int = (await tx.fetch(f"SELECT count(*) AS n FROM held WHERE {self._where}", *self._args))[0]["n"]
        return found


def _places(given: int, more: int) -> str:
    return f"({', '.join(f'${given + n + 1}' for n in range(more))})"


def _place(row: asyncpg.Record) -> tuple[str, int, int]:
    return row["topic"], row["partition"], row["offset"]


def _token(*parts: Any) -> str:  # noqa: ANN401 - texts and numbers
    return json.dumps(parts)


def _read(token: str, parts: int) -> list[Any]:
    try:
        found = json.loads(token)
    except (ValueError, RecursionError):
        found = None
    kinds: Sequence[type] = (str, str, int, int)[-parts:]
    if not isinstance(found, list) or [type(part) for part in found] != list(kinds):
        raise InvalidInput("page_token: take the one that the page before told")
    return found


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidInput("page_token: take the one that the page before told") from None


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput("page_token: take the one that the page before told") from None
