"""Parked keys: the events of one key wait in order behind one that keeps failing, while other keys flow."""

import asyncio
import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from millrace.contracts import SERVICES
from millrace.contracts.held import NO_NAMESPACE, KeyParked, KeyUnparked
from millrace.runtime import held
from millrace.runtime.database import Transactions
from millrace.runtime.errors import Unavailable
from millrace.runtime.statements import UNEXPECTED
from millrace.runtime.subscriptions import Record
from millrace.runtime.telemetry import PARKED_KEYS
from millrace.runtime.transaction import Transaction

MEASURE_EVERY_S = 15.0
MAX_TOLD = 200

Key = tuple[str, bytes | None]
"""What is parked: a topic and a record's key."""

# A reader of a key holds it as it is; whoever drains it is alone at that, and does not hold up readers; only who lets
# it go waits for the readers at work.
_AMONG = """
SELECT topic, key FROM parked_key
WHERE consumer = $1 AND (topic, key_sha256) IN (
    SELECT a.topic, sha256(a.key) FROM unnest($2::text[], $3::bytea[]) AS a(topic, key))
"""
AMONG = f"{_AMONG} ORDER BY topic, key FOR KEY SHARE"
NONE_AMONG = UNEXPECTED.format(what="a parked key", where=f"EXISTS ({_AMONG})")
PARK = """
INSERT INTO parked_key (consumer, topic, key, namespace, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (consumer, topic, key_sha256) DO UPDATE SET reason = parked_key.reason RETURNING xmax = 0 AS parked
"""
IT = "consumer = $1 AND topic = $2 AND key_sha256 = sha256($3)"
DRAIN = f"SELECT namespace FROM parked_key WHERE {IT} FOR NO KEY UPDATE"
IS_PARKED = f"SELECT true FROM parked_key WHERE {IT} AND ($4 = '' OR namespace = $4)"
LOCK = f"SELECT namespace FROM parked_key WHERE {IT} FOR UPDATE"
RELEASE = f"""
DELETE FROM parked_key k WHERE {IT} AND NOT EXISTS (
    SELECT FROM held h WHERE h.consumer = k.consumer AND h.topic = k.topic AND sha256(h.key) = k.key_sha256
        AND h.state = 'parked')
RETURNING true
"""
COUNT = """
SELECT now(), (SELECT coalesce(jsonb_object_agg(topic, keys), '{}') FROM (
    SELECT topic, count(*) AS keys FROM parked_key WHERE consumer = $1 GROUP BY topic) AS each) AS keys
"""
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


async def among(tx: Transaction, consumer: str, keys: Iterable[Key]) -> set[Key]:
    """Return those of the keys that are parked; they stay so until this transaction ends."""
    asked = _columns(keys)
    rows = await tx.fetch(AMONG, consumer, *asked) if asked[0] else []
    return {(row["topic"], row["key"]) for row in rows}


def hope_for_none(tx: Transaction, consumer: str, keys: Iterable[Key]) -> None:
    """Hope that none of the keys is parked."""
    asked = _columns(keys)
    if asked[0]:
        tx.hope(NONE_AMONG, consumer, *asked)


def _columns(keys: Iterable[Key]) -> tuple[list[str], list[bytes]]:
    asked = sorted((topic, key) for topic, key in set(keys) if key is not None)
    return [topic for topic, _ in asked], [key for _, key in asked]


async def park(tx: Transaction, consumer: str, record: Record, reason: str, attempts: int) -> None:
    """Park a record's key behind it, and say so; a record without a key holds up nobody and is dead."""
    if record.key is None:
        held.hold(tx, consumer, record, reason, attempts)
        return
    held.hold(tx, consumer, record, reason, attempts, state="parked")
    namespace = held.text_of(dict(record.headers).get("ce_namespace"))
    reason = held.storable(reason)[: held.MAX_REASON]
    # Where it is parked already, its row is locked: who lets it go waits, and sees what has just been held.
    (found,) = await tx.fetch(PARK, consumer, record.topic, record.key, namespace, reason)
    if found["parked"]:
        _say(tx, KeyParked, consumer, record.topic, record.key, namespace, reason=reason)


async def drain(tx: Transaction, consumer: str, topic: str, key: bytes) -> bool:
    """Be the only one that drains a key until this transaction ends; return whether it is parked."""
    return bool(await tx.fetch(DRAIN, consumer, topic, key))


async def is_parked(tx: Transaction, consumer: str, namespace: str, topic: str, key: bytes) -> bool:
    """Return whether a key of a namespace is parked; of any where that is empty."""
    return bool(await tx.fetch(IS_PARKED, consumer, topic, key, namespace))


async def lock(tx: Transaction, consumer: str, keys: Iterable[tuple[str, bytes]]) -> None:
    """Hold keys against their readers and whoever drains them until this transaction ends; they are to be sorted."""
    for topic, key in keys:
        await tx.fetch(LOCK, consumer, topic, key)


async def release(tx: Transaction, consumer: str, topic: str, key: bytes) -> bool:
    """Let a key flow again when none of its events waits any more; return whether it flows.

    To be called where this transaction holds no other locks: it waits for the readers at work.
    """
    rows = await tx.fetch(LOCK, consumer, topic, key)
    if not rows:
        return True
    # A statement of its own: it must see what those have written for whom the lock was waited.
    if not await tx.fetch(RELEASE, consumer, topic, key):
        return False
    _say(tx, KeyUnparked, consumer, topic, key, rows[0]["namespace"])
    return True


async def measure(begin: Transactions[Any], consumer: str, known: set[str]) -> None:
    """Set the gauge of parked keys, by topic; `known` are the topics that it was set for."""
    found = (await begin.look(COUNT, consumer))["keys"]
    known.update(found)
    for topic in known:
        PARKED_KEYS.labels(consumer, topic).set(found.get(topic, 0))


async def watch(begin: Transactions[Any], consumer: str) -> None:
    """Keep the gauge of parked keys, whoever parks them or lets them go."""
    known: set[str] = set()
    while True:
        with suppress(Unavailable):
            await measure(begin, consumer, known)
        await asyncio.sleep(MEASURE_EVERY_S)


def _say(
    tx: Transaction,
    event: type[KeyParked | KeyUnparked],
    consumer: str,
    topic: str,
    key: bytes,
    namespace: str,
    **more: str,
) -> None:
    if consumer not in SERVICES:
        return  # its topic is in no catalogue
    told = namespace if _NAMESPACE.fullmatch(namespace) else NO_NAMESPACE
    tx.emit(
        event(
            namespace=told,
            service=consumer,
            held_topic=topic,
            held_key=_told(key),
            **more,
        )
    )


def _told(key: bytes) -> str:
    """Return a key as a text that can be sent and shown; what is not the key itself ends in the key's digest."""
    text = key.decode(errors="backslashreplace")
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    if shown.encode() == key and len(shown) <= MAX_TOLD:
        return shown
    return f"{shown[:MAX_TOLD]}~{hashlib.sha256(key).hexdigest()}"
