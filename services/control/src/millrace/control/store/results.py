"""Results that are kept under their keys, and what runs ask and tell of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from millrace.control.domain.results import computing_json, mail_of, read_mail, result_of, slot_of
from millrace.control.store.rows import columns, json_of
from millrace.control.store.signals import Signals
from millrace.core.results import Result, Slot
from millrace.core.state import AskCache, TellCache
from millrace.runtime.transaction import Transaction

MOST_MAIL = 400
"""The most that is read at once of what runs ask and tell of results."""
ADD = "INSERT INTO result_mail (namespace, key, run_id, task_id, told) VALUES ($1, $2, $3, $4, $5)"
# Whether there is something under a key or not, it is locked; always in the order of the keys.
HOLD = """
INSERT INTO result AS r (namespace, key, kind)
SELECT k.namespace, k.key, '' FROM unnest($1::text[], $2::text[]) AS k(namespace, key) ORDER BY 1, 2
ON CONFLICT (namespace, key) DO UPDATE SET kind = r.kind RETURNING r.*
"""
MAIL = """
SELECT m.* FROM unnest($1::text[], $2::text[]) AS k(namespace, key)
JOIN result_mail m USING (namespace, key) WHERE NOT m.waits ORDER BY m.mail_id LIMIT $3
"""
LATEST = """
SELECT k.namespace, k.kind AS of_kind, r.* FROM unnest($1::text[], $2::text[]) AS k(namespace, kind)
CROSS JOIN LATERAL (
    SELECT output, run_id, task, at, expires_at, parts FROM result
    WHERE namespace = k.namespace AND kind = k.kind AND at IS NOT NULL ORDER BY at DESC LIMIT 1
) AS r
"""
SAVE = """
UPDATE result AS r SET kind = n.kind, output = n.output::jsonb, run_id = n.run_id, task = n.task, at = n.at,
    expires_at = n.expires_at, parts = n.parts::jsonb, computing = n.computing::jsonb
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::timestamptz[],
    $8::timestamptz[], $9::text[], $10::text[])
    AS n(namespace, key, kind, output, run_id, task, at, expires_at, parts, computing)
WHERE r.namespace = n.namespace AND r.key = n.key
"""
DROP_EMPTY = """
DELETE FROM result r USING unnest($1::text[], $2::text[]) AS k(namespace, key)
WHERE r.namespace = k.namespace AND r.key = k.key
"""
READ = "DELETE FROM result_mail WHERE mail_id = ANY($1)"
WAIT = "UPDATE result_mail SET waits = true WHERE mail_id = ANY($1)"
# Who waited and is settled, waits no more.
SETTLED = """
DELETE FROM result_mail m USING unnest($1::text[], $2::text[], $3::uuid[]) AS t(namespace, key, task_id)
WHERE m.namespace = t.namespace AND m.key = t.key AND m.task_id = t.task_id AND m.waits
"""
WAKE_ALL = "UPDATE result_mail SET waits = false WHERE namespace = $1 AND key = $2 AND waits"
WAKE_NEXT = """
UPDATE result_mail SET waits = false WHERE mail_id = (
    SELECT mail_id FROM result_mail WHERE namespace = $1 AND key = $2 AND waits ORDER BY mail_id LIMIT 1)
"""
SLOTS = """
SELECT * FROM result JOIN unnest($2::text[]) AS k(key) USING (key) WHERE namespace = $1
"""
FORGET = """
DELETE FROM result WHERE (namespace, key) IN (
    SELECT namespace, key FROM result WHERE expires_at < $1 AND computing IS NULL
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING true
"""

Place = tuple[str, str]
"""A namespace and a key."""


@dataclass(frozen=True, slots=True)
class KeptMail:
    """What a run has asked or told of a key."""

    mail_id: int
    place: Place
    run_id: UUID
    told: AskCache | TellCache


class Results(Transaction):
    """Results, and what is asked and told of them."""

    signals: ClassVar[Signals]

    def add_result_mail(self, namespace: str, run_id: UUID, told: AskCache | TellCache) -> None:
        """Keep what a run asks or tells of a key, until somebody reads it under that key's lock."""
        self.write(ADD, namespace, told.key, run_id, told.task_id, mail_of(told))
        self.on_commit(lambda: self.signals.due_in(0.0))

    async def hold_results(self, places: Iterable[Place]) -> dict[Place, Slot]:
        """Return what there is under some keys, locked."""
        rows = await self.fetch(HOLD, *columns(sorted(set(places))))
        return {(row["namespace"], row["key"]): slot_of(row) for row in rows}

    async def result_mail(self, places: Sequence[Place]) -> list[KeptMail]:
        """Return what runs have asked and told of some keys and nobody has read, the oldest first."""
        rows = await self.fetch(MAIL, *columns(places), MOST_MAIL)
        return [
            KeptMail(
                row["mail_id"],
                (row["namespace"], row["key"]),
                row["run_id"],
                read_mail(row["told"], row["key"], row["task_id"]),
            )
            for row in rows
        ]

    async def latest_results(self, kinds: Iterable[Place]) -> Mapping[Place, Result]:
        """Return, of kinds of work in namespaces, the latest result that is kept."""
        if not (wanted := sorted(set(kinds))):
            return {}
        return {
            (row["namespace"], row["of_kind"]): result_of(row) for row in await self.fetch(LATEST, *columns(wanted))
        }

    async def slots(self, namespace: str, keys: Sequence[str]) -> dict[str, Slot]:
        """Return what there is under some keys; those under which there is nothing are left out."""
        return {row["key"]: slot_of(row) for row in await self.fetch(SLOTS, namespace, list(keys))}

    def save_results(self, slots: Mapping[Place, Slot], kinds: Mapping[Place, str]) -> None:
        """Keep what there is under some locked keys, where something is known to be asked or told of it.

        Args:
            slots: What there is under every key that is locked.
            kinds: Which kind of work those keys are of that may have changed.
        """
        rows = []
        for place in kinds:
            slot = slots[place]
            by = json.dumps(computing_json(slot.computing)) if slot.computing is not None else None
            r = slot.result
            kept = (r.output, r.run_id, r.task, r.at, r.expires_at, r.parts) if r is not None else (None,) * 6
            output, run_id, task, at, expires_at, parts = kept
            parts_text = json.dumps(dict(parts)) if parts is not None else None
            rows.append((*place, kinds[place], json_of(output), run_id, task, at, expires_at, parts_text, by))
        if rows:
            self.write(SAVE, *columns(rows))
        if empty := [place for place, slot in slots.items() if slot == Slot()]:
            self.write(DROP_EMPTY, *columns(empty))

    def read_result_mail(self, read: Sequence[KeptMail], waiting: Sequence[KeptMail]) -> None:
        """Let go of what was read, and keep what has to wait."""
        self.write(WAIT, [one.mail_id for one in waiting])
        settled = [(*one.place, one.told.task_id) for one in read if isinstance(one.told, TellCache)]
        if settled:
            self.write(SETTLED, *columns(settled))
        self.write(READ, [one.mail_id for one in read])

    def wake_results(self, place: Place, *, all_of_them: bool) -> None:
        """Have those that wait under a key ask again, or the one that has waited longest."""
        self.write(WAKE_ALL if all_of_them else WAKE_NEXT, *place)
        self.on_commit(lambda: self.signals.due_in(0.0))

    async def forget_results(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` results that expired before a moment; return how many."""
        return len(await self.fetch(FORGET, before, limit))
