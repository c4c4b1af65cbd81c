"""Triggers that wait, as they are kept: for other events, for a turn, for somebody who lets them go on."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
from millrace.control.store.events import Events
from millrace.control.store.health import FARED
from millrace.control.store.rows import holds_up
from millrace.control.store.signals import Signals
from millrace.core.triggers import Trigger
from millrace.runtime.transaction import one

# Always in the order of their names, after events and before runs.
HOLD = """
SELECT t.*, coalesce(w.sha256, '') AS sha256 FROM trigger t
LEFT JOIN workflow w ON w.namespace = t.namespace AND w.name = t.workflow
WHERE (t.namespace, t.name) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY t.namespace, t.name
FOR UPDATE OF t
"""
SAVE = """
UPDATE trigger SET queued = $3, admitted = $4, admit_at = $5, full_at = $6, last_run = $7
WHERE namespace = $1 AND name = $2
"""
# With its document, so that whoever keeps rules in memory reads them again.
SAVE_STANDING = """
UPDATE trigger SET paused_at = $3, paused_by = $4, draining = $5, document = document WHERE namespace = $1 AND name = $2
"""
WAITING_EVENTS = """
SELECT count(*) FROM (SELECT FROM trigger_match
    WHERE namespace = $1 AND trigger = $2 AND disposition IN ('waiting', 'queued') LIMIT $3) AS counted
"""
DROP_WAITING = """
WITH dropped AS (
    UPDATE trigger_match SET disposition = 'dropped', reason = $3
    WHERE namespace = $1 AND trigger = $2 AND disposition IN ('waiting', 'queued') RETURNING 1
)
SELECT count(*) FROM dropped
"""
# What it said goes with it: one of the same name counts its versions from 1 again.
DELETE = """
WITH versions AS (DELETE FROM trigger_version WHERE namespace = $1 AND name = $2
), gatherings AS (DELETE FROM gathering WHERE namespace = $1 AND trigger = $2
), health AS (DELETE FROM trigger_health WHERE namespace = $1 AND name = $2
)
DELETE FROM trigger WHERE namespace = $1 AND name = $2
"""
DOCUMENT = "SELECT document FROM trigger_version WHERE namespace = $1 AND name = $2 AND version = $3"
# Of each trigger the document that was in force at a moment; the first one, where it came later.
VERSIONS_AT = """
SELECT DISTINCT ON (name) name, document, applied_at FROM trigger_version WHERE namespace = $1
ORDER BY name, applied_at > $2, CASE WHEN applied_at > $2 THEN -version ELSE version END DESC
"""
# What a trigger said goes when another has long stood in its place. It stays while events wait by it or may come to,
# since the one in force has its shape, and while an event is kept that came when it stood, and is explained by it.
FORGET_VERSIONS = """
WITH old AS MATERIALIZED (
    SELECT v.namespace, v.name, v.version FROM trigger_version v
    CROSS JOIN LATERAL (SELECT applied_at FROM trigger_version n
        WHERE n.namespace = v.namespace AND n.name = v.name AND n.version > v.version
        ORDER BY n.version LIMIT 1) AS next
    WHERE v.applied_at < $1 AND next.applied_at < $1
        AND NOT EXISTS (SELECT FROM trigger t
            WHERE t.namespace = v.namespace AND t.name = v.name AND t.shape_version = v.version)
        AND NOT EXISTS (SELECT FROM gathering g
            WHERE g.namespace = v.namespace AND g.trigger = v.name AND g.version = v.version)
        AND NOT EXISTS (SELECT FROM trigger_match m WHERE m.namespace = v.namespace AND m.trigger = v.name
            AND m.disposition = 'waiting' AND m.version = v.version)
        AND NOT EXISTS (SELECT FROM event e WHERE e.received_at >= v.applied_at AND e.received_at < next.applied_at
            AND e.namespace = v.namespace)
    ORDER BY v.applied_at LIMIT $2 FOR UPDATE OF v SKIP LOCKED
)
DELETE FROM trigger_version WHERE (namespace, name, version) IN (SELECT * FROM old) RETURNING 1
"""
# How a trigger stands; at most 10,000 of anything are counted.
_SHOWN = f"""
SELECT t.namespace, t.name, t.workflow, t.document, t.principal, t.applied_at, t.paused_at, t.paused_by, t.admit_at,
    {FARED.strip()},
    CASE WHEN t.document->>'strategy' = 'strict_sequence' AND {holds_up("t.last_run")}
        THEN t.last_run END AS blocked_by,
    (SELECT count(*) FROM (SELECT FROM run r WHERE r.namespace = t.namespace AND r.trigger_name = t.name
        AND r.place IS NOT NULL AND r.started_at IS NULL AND r.ended_at IS NULL LIMIT 10000) AS of_it) AS waiting_runs,
    (SELECT count(*) FROM (SELECT FROM trigger_match m WHERE m.namespace = t.namespace AND m.trigger = t.name
        AND m.disposition = 'queued' LIMIT 10000) AS counted) AS queued_events,
    (SELECT count(*) FROM (SELECT FROM trigger_match m WHERE m.namespace = t.namespace AND m.trigger = t.name
        AND m.disposition = 'waiting' LIMIT 10000) AS counted) AS waiting_events
FROM trigger t LEFT JOIN trigger_health h USING (namespace, name) WHERE t.namespace = $1
"""
SHOWN = f"{_SHOWN} AND t.name = $2"
LIST = f"{_SHOWN} AND t.name > $2 ORDER BY t.name LIMIT $3"
# Of a run that waits: how many wait before it, and the first of those that are under way.
BEFORE = """
SELECT (SELECT count(*) FROM (SELECT FROM run WHERE namespace = $1 AND trigger_name = $2 AND place IS NOT NULL
        AND started_at IS NULL AND ended_at IS NULL AND place < $3 LIMIT 10000) AS counted) AS waiting,
    (SELECT run_id FROM run WHERE namespace = $1 AND trigger_name = $2 AND place IS NOT NULL AND ended_at IS NULL
        AND started_at IS NOT NULL AND place < $3 ORDER BY place LIMIT 1) AS under_way
"""


@dataclass(slots=True, eq=False)
class HeldTrigger:
    """A trigger whose row is held.

    Attributes:
        sha256: The version of its workflow that its runs get; empty where it hands its events to tasks.
        version: Since which version events wait for one another as it says.
        queued: The place of the run that was queued last.
        admitted: No run up to this place waits.
        admit_at: When the throttle lets the next one begin.
        full_at: What the throttle is to be told.
        draining: Events that came while it was paused are still to be looked at.
        last_run: Of a strict sequence, the run that the next one waits for.
    """

    namespace: str
    trigger: Trigger
    principal: str
    sha256: str
    version: int
    queued: int
    admitted: int
    admit_at: datetime | None
    full_at: datetime | None
    paused_at: datetime | None
    paused_by: str
    draining: bool
    last_run: UUID | None

    @property
    def key(self) -> tuple[str, str]:
        """Return its namespace and name."""
        return (self.namespace, self.trigger.name)


@dataclass(frozen=True, slots=True)
class ShownTrigger:
    """How a trigger stands.

    Attributes:
        workflow: What it starts; empty where it hands its events to tasks.
        blocked_by: The run that failed, behind which those of a strict sequence wait.
        next_at: When its throttle lets the next run begin.
        waiting_runs: Those that wait for their turn; of these and the others at most 10,000 are counted.
        queued_events: Those that came while it was paused.
        waiting_events: Those that wait for others.
        matched_at: When it last took an event.
        failed_at: When something last went wrong with it as it is now, and `failure`: what that was.
    """

    name: str
    workflow: str
    document: dict[str, Any]
    principal: str
    applied_at: datetime
    paused_at: datetime | None
    paused_by: str
    blocked_by: UUID | None
    next_at: datetime | None
    waiting_runs: int
    queued_events: int
    waiting_events: int
    matched_at: datetime | None
    failed_at: datetime | None
    failure: str


class Triggers(Events):
    """Triggers whose rows are held while something is decided on them."""

    signals: ClassVar[Signals]
    changes_rules: bool

    async def hold_triggers(self, triggers: Iterable[tuple[str, str]]) -> dict[tuple[str, str], HeldTrigger]:
        """Return some triggers, locked; those that do not exist are left out."""
        wanted = sorted(set(triggers))
        rows = await self.fetch(HOLD, [namespace for namespace, _ in wanted], [name for _, name in wanted])
        return {(row["namespace"], row["name"]): _held(row) for row in rows}

    async def hold_one(self, namespace: str, name: str) -> HeldTrigger:
        """Return a trigger, locked."""
        rows = await self.fetch(HOLD, [namespace], [name])
        return _held(one(rows, f"trigger {name} in namespace {namespace}"))

    def save_trigger(self, held: HeldTrigger) -> None:
        """Keep how the runs of a held trigger stand; the clock looks at it at once, or when it is due."""
        self.write(SAVE, *held.key, held.queued, held.admitted, held.admit_at, held.full_at, held.last_run)
        if held.draining or held.admitted < held.queued:
            self.wake(held.admit_at)

    def save_standing(self, held: HeldTrigger) -> None:
        """Keep whether a held trigger is paused, and whether it is still at what came meanwhile."""
        self.changes_rules = True
        self.write(SAVE_STANDING, *held.key, held.paused_at, held.paused_by, held.draining)
        self.wake(None)

    async def waiting_events(self, held: HeldTrigger, at_most: int) -> int:
        """Return how many events wait in a held trigger; not more than `at_most`."""
        ((count,),) = await self.fetch(WAITING_EVENTS, *held.key, at_most)
        return int(count)

    async def drop_waiting(self, held: HeldTrigger, reason: str) -> int:
        """Keep that the events that wait in a held trigger lead to nothing; return how many did."""
        ((count,),) = await self.fetch(DROP_WAITING, *held.key, reason)
        return int(count)

    def delete_trigger(self, held: HeldTrigger) -> None:
        """Take a held trigger out of force; nothing of it waits any more."""
        self.changes_rules = True
        self.write(DELETE, *held.key)

    async def shown_triggers(self, namespace: str, after: str, limit: int) -> list[ShownTrigger]:
        """Return how up to `limit` triggers of a namespace stand, by name, after one."""
        return [_shown(row) for row in await self.fetch(LIST, namespace, after, limit)]

    async def shown_trigger(self, namespace: str, name: str) -> ShownTrigger:
        """Return how a trigger stands."""
        return _shown(one(await self.fetch(SHOWN, namespace, name), f"trigger {name} in namespace {namespace}"))

    async def before(self, namespace: str, trigger: str, place: int) -> tuple[int, UUID | None]:
        """Return how many runs of a trigger wait before a place, and the first that is under way there."""
        ((waiting, under_way),) = await self.fetch(BEFORE, namespace, trigger, place)
        return int(waiting), under_way

    async def trigger_version(self, namespace: str, name: str, version: int) -> Trigger:
        """Return what a trigger said in one of its versions."""
        rows = await self.fetch(DOCUMENT, namespace, name, version)
        return Trigger.model_validate(one(rows, f"version {version} of trigger {name}")["document"])

    async def triggers_at(self, namespace: str, moment: datetime) -> list[tuple[Trigger, datetime]]:
        """Return what each trigger said at a moment, and since when; of one that came later, what it said first."""
        rows = await self.fetch(VERSIONS_AT, namespace, moment)
        return [(Trigger.model_validate(row["document"]), row["applied_at"]) for row in rows]

    async def forget_versions(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` of what triggers said and has not stood since a moment, if nothing asks for it."""
        return len(await self.fetch(FORGET_VERSIONS, before, limit))

    def wake(self, due_at: datetime | None) -> None:
        """Have the clock look at triggers then; at once, where no time is given."""
        wait_s = (due_at - self.now).total_seconds() if due_at is not None else 0.0
        self.on_commit(lambda: self.signals.due_in(max(0.0, wait_s)))


def _held(row: asyncpg.Record) -> HeldTrigger:
    return HeldTrigger(
        namespace=row["namespace"],
        trigger=Trigger.model_validate(row["document"]),
        principal=row["principal"],
        sha256=row["sha256"],
        version=row["shape_version"],
        queued=row["queued"],
        admitted=row["admitted"],
        admit_at=row["admit_at"],
        full_at=row["full_at"],
        paused_at=row["paused_at"],
        paused_by=row["paused_by"],
        draining=row["draining"],
        last_run=row["last_run"],
    )


def _shown(row: asyncpg.Record) -> ShownTrigger:
    return ShownTrigger(
        name=row["name"],
        workflow=row["workflow"] or "",
        document=row["document"],
        principal=row["principal"],
        applied_at=row["applied_at"],
        paused_at=row["paused_at"],
        paused_by=row["paused_by"],
        blocked_by=row["blocked_by"],
        next_at=row["admit_at"],
        waiting_runs=row["waiting_runs"],
        queued_events=row["queued_events"],
        waiting_events=row["waiting_events"],
        matched_at=row["matched_at"],
        failed_at=row["failed_at"],
        failure=row["failure"],
    )
