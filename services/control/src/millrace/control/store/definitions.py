"""Workflows, sources and triggers as they are kept."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal
from uuid import UUID

import asyncpg
from millrace.control.store.rows import everywhere
from millrace.control.store.signals import Signals
from millrace.core.ir import Workflow
from millrace.core.plan import Plan, compile_plan
from millrace.core.planning import parse_planned
from millrace.core.triggers import Index, Source, Trigger, reader_of
from millrace.runtime.statements import UNEXPECTED
from millrace.runtime.transaction import Transaction, one

ADD_VERSION = """
INSERT INTO workflow_version (namespace, sha256, name, document) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
PUT_WORKFLOW = """
INSERT INTO workflow (namespace, name, sha256, principal, applied_at) VALUES ($1, $2, $3, $4, now())
ON CONFLICT (namespace, name) DO UPDATE SET sha256 = excluded.sha256, principal = excluded.principal, applied_at = now()
"""
IN_FORCE = """
SELECT v.sha256, v.document FROM workflow w JOIN workflow_version v USING (namespace, sha256)
WHERE w.namespace = $1 AND w.name = $2
"""
FOUND = """
SELECT v.name, v.sha256, v.document, coalesce(w.principal, '') AS principal,
    coalesce(w.applied_at, v.added_at) AS applied_at
FROM workflow_version v LEFT JOIN workflow w USING (namespace, sha256)
WHERE v.namespace = $1 AND v.name = $2 AND v.sha256 = coalesce(nullif($3, ''),
    (SELECT sha256 FROM workflow WHERE namespace = $1 AND name = $2))
"""
WORKFLOWS = """
SELECT name, sha256, '' AS document, principal, applied_at FROM workflow WHERE namespace = $1 AND name > $2
ORDER BY name LIMIT $3
"""
THERE = "SELECT name FROM workflow WHERE namespace = $1 AND name = ANY($2)"
VERSIONS = f"""
SELECT sha256, document FROM workflow_version WHERE sha256 = ANY($1)
UNION ALL SELECT sha256, document FROM {everywhere("run_plan")} AS p
    WHERE run_id = ANY($2) AND sha256 = ANY($1)
"""
HOLD_WORKFLOW = "SELECT sha256 FROM workflow WHERE namespace = $1 AND name = $2 FOR UPDATE"
SOURCE = "SELECT document FROM source WHERE namespace = $1 AND topic = $2 FOR UPDATE"
PUT_SOURCE = """
INSERT INTO source (namespace, topic, document) VALUES ($1, $2, $3)
ON CONFLICT (namespace, topic) DO UPDATE SET document = excluded.document
"""
DOCUMENTS = "SELECT document::text FROM trigger WHERE namespace = $1 ORDER BY name"
HOLD_TRIGGER = "SELECT document FROM trigger WHERE namespace = $1 AND name = $2 FOR UPDATE"
# Runs of one that was deleted and had the name may be under way: those of the new one come after them.
PUT_TRIGGER = """
WITH put AS (
    INSERT INTO trigger AS t (namespace, name, topic, workflow, document, principal, queued, admitted)
    SELECT $1, $2, $3, $4, $5, $6, last.place, last.place FROM (
        SELECT coalesce(max(place), 0) AS place FROM run
        WHERE namespace = $1 AND trigger_name = $2 AND place IS NOT NULL AND ended_at IS NULL
    ) AS last
    ON CONFLICT (namespace, name) DO UPDATE SET topic = excluded.topic, workflow = excluded.workflow,
        document = excluded.document, principal = excluded.principal, applied_at = now(), version = t.version + 1,
        shape_version = CASE WHEN $7 THEN t.shape_version ELSE t.version + 1 END
    RETURNING namespace, name, version, document, applied_at
)
INSERT INTO trigger_version (namespace, name, version, document, applied_at) TABLE put
"""
# As text: what is read for every round of records is parsed once per process.
RULES = """
SELECT r.version AS rules, each.* FROM rules r LEFT JOIN (
    SELECT namespace, document::text AS source, NULL AS trigger, '' AS principal, '' AS sha256, 0 AS version,
        false AS paused, false AS draining
    FROM source
    UNION ALL
    SELECT t.namespace, NULL, t.document::text, t.principal, coalesce(w.sha256, ''), t.shape_version,
        t.paused_at IS NOT NULL, t.draining
    FROM trigger t LEFT JOIN workflow w ON w.namespace = t.namespace AND w.name = t.workflow
) AS each ON true
"""
RULES_VERSION = "SELECT version FROM rules"
SAME_RULES = UNEXPECTED.format(what="other rules", where="(SELECT version FROM rules) <> $1")

# Versions never change, so that a plan is worked out once per process.
_plans: dict[str, Plan] = {}
MAX_PLANS = 1_000


@dataclass(frozen=True, slots=True)
class InForce:
    """A trigger in force, on whose behalf its runs are, and the version of its workflow that they get.

    Attributes:
        version: Since which version of it events wait for one another as it says.
        draining: It was paused, and events that came meanwhile are still to be looked at.
    """

    namespace: str
    trigger: Trigger
    principal: str
    sha256: str
    version: int = 1
    paused: bool = False
    draining: bool = False


class Rules:
    """Who reads which topics how, and the triggers in force by what their events must be.

    Attributes:
        version: Changes with any of it.
    """

    def __init__(self, version: UUID, sources: Iterable[tuple[str, Source]], triggers: Iterable[InForce]) -> None:
        self.version = version
        self.index = Index(triggers)
        self._sources: dict[str, list[Source]] = {}
        self._readers: dict[str, list[tuple[str, Source]]] = {}
        for namespace, source in sources:
            self._sources.setdefault(namespace, []).append(source)

    def readers(self, topic: str) -> Sequence[tuple[str, Source]]:
        """Return the namespaces that read a topic, each with how."""
        if topic not in self._readers:
            found = ((namespace, reader_of(topic, sources)) for namespace, sources in self._sources.items())
            self._readers[topic] = [(namespace, source) for namespace, source in found if source is not None]
        return self._readers[topic]


# What was last read of the rules: whoever takes it from here has its version checked, or checks it where it writes.
_rules: dict[Literal["all"], Rules] = {}


class Definitions(Transaction):
    """What users have put in force, with whoever waits for changes in this process.

    Attributes:
        changes_rules: Whether any of what is made of events has been changed.
    """

    signals: ClassVar[Signals] = Signals()
    changes_rules = False

    async def workflow(self, namespace: str, name: str, sha256: str = "") -> asyncpg.Record:
        """Return a workflow in force, or one version of it."""
        what = f"workflow {name}{f' {sha256}' if sha256 else ''} in namespace {namespace}"
        return one(await self.fetch(FOUND, namespace, name, sha256), what)

    async def workflows(self, namespace: str, after: str, limit: int) -> list[asyncpg.Record]:
        """Return up to `limit` workflows in force, by name, after one."""
        return await self.fetch(WORKFLOWS, namespace, after, limit)

    async def workflows_there(self, namespace: str, names: Iterable[str]) -> set[str]:
        """Return which of some workflows are in force."""
        return {row["name"] for row in await self.fetch(THERE, namespace, list(names))}

    async def put_workflow(self, namespace: str, workflow: Workflow, principal: str) -> str | None:
        """Put a workflow in force.

        Returns:
            The hash of the version that was before, empty where there was none; None where it is in force already.
        """
        before = await self.fetch(HOLD_WORKFLOW, namespace, workflow.name)
        if before and before[0]["sha256"] == workflow.sha256:
            return None
        self.changes_rules = True
        self.write(ADD_VERSION, namespace, workflow.sha256, workflow.name, json.dumps(workflow.document()))
        self.write(PUT_WORKFLOW, namespace, workflow.name, workflow.sha256, principal)
        return before[0]["sha256"] if before else ""

    async def plan_in_force(self, namespace: str, name: str) -> Plan:
        """Return the plan that a new run of a workflow gets."""
        row = one(await self.fetch(IN_FORCE, namespace, name), f"workflow {name} in namespace {namespace}")
        return _plan(row["sha256"], row["document"])

    async def plans(self, sha256s: Iterable[str], run_ids: Iterable[UUID] = ()) -> dict[str, Plan]:
        """Return plans by their versions, of workflows and of what tasks of some runs have planned."""
        wanted = set(sha256s)
        missing = wanted - _plans.keys()
        if missing:
            for row in await self.fetch(VERSIONS, list(missing), list(run_ids)):
                _plan(row["sha256"], row["document"])
        return {sha256: _plans[sha256] for sha256 in wanted}

    async def hold_source(self, namespace: str, topic: str) -> Source | None:
        """Return the source of a topic, locked; None when there is none yet."""
        rows = await self.fetch(SOURCE, namespace, topic)
        return Source.model_validate(rows[0]["document"]) if rows else None

    def put_source(self, namespace: str, source: Source) -> None:
        """Keep how a topic is read."""
        self.changes_rules = True
        self.write(PUT_SOURCE, namespace, source.topic, source.model_dump(mode="json", exclude_none=True))
        # The topics that are to be read come with a look at what is due.
        self.on_commit(self.signals.applied)

    async def triggers_of(self, namespace: str, topic: str, *, but: str) -> list[str]:
        """Return the names of a topic's triggers, all but one."""
        triggers = [_trigger(row["document"]) for row in await self.fetch(DOCUMENTS, namespace)]
        return [one.name for one in triggers if one.name != but and topic in {source.topic for source in one.sources()}]

    async def hold_trigger(self, namespace: str, name: str) -> Trigger | None:
        """Return a trigger, locked; None when there is none yet."""
        rows = await self.fetch(HOLD_TRIGGER, namespace, name)
        return Trigger.model_validate(rows[0]["document"]) if rows else None

    def put_trigger(self, namespace: str, trigger: Trigger, principal: str, *, same_shape: bool = False) -> None:
        """Put a trigger in force; where it has the same shape, events that wait go on to wait for others."""
        document = trigger.model_dump(mode="json", exclude_none=True)
        topic, self.changes_rules = trigger.sources()[0].topic, True
        self.write(PUT_TRIGGER, namespace, trigger.name, topic, trigger.workflow, document, principal, same_shape)

    async def rules(self) -> Rules:
        """Return the sources and triggers in force."""
        # Their version is another only at the end of a transaction that has changed any.
        if (known := _rules.get("all")) is not None and not self.changes_rules:
            if self.hopes:
                self.hope(SAME_RULES, known.version)
                return known
            ((version,),) = await self.fetch(RULES_VERSION)
            if version == known.version:
                return known
        rows = await self.fetch(RULES)
        sources = [(row["namespace"], _source(row["source"])) for row in rows if row["source"] is not None]
        triggers = [_in_force(row) for row in rows if row["trigger"] is not None]
        rules = Rules(rows[0]["rules"], sources, triggers)
        if not self.changes_rules:
            self.on_commit(lambda: _remember(rules))
        return rules


_source = lru_cache(maxsize=10_000)(Source.model_validate_json)
_trigger = lru_cache(maxsize=10_000)(Trigger.model_validate_json)


def _remember(rules: Rules) -> None:
    _rules["all"] = rules


def _in_force(row: asyncpg.Record) -> InForce:
    trigger = _trigger(row["trigger"])
    paused = row["paused"] or trigger.paused
    return InForce(row["namespace"], trigger, row["principal"], row["sha256"], row["version"], paused, row["draining"])


def _plan(sha256: str, document: str) -> Plan:
    if sha256 not in _plans:
        if len(_plans) >= MAX_PLANS:
            _plans.clear()
        _plans[sha256] = compile_plan(parse_planned(json.loads(document)))
    return _plans[sha256]
