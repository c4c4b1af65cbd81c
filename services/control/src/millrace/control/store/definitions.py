"""Workflows, sources and triggers as they are kept."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar
from uuid import UUID

import asyncpg
from millrace.control.store.signals import Signals
from millrace.core.ir import Workflow
from millrace.core.plan import Plan, compile_plan
from millrace.core.planning import parse_planned
from millrace.core.triggers import Source, Trigger
from millrace.runtime.transaction import UNEXPECTED, Transaction, one

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
SELECT name, sha256, '' AS document, principal, applied_at FROM workflow WHERE namespace = $1 ORDER BY name
"""
VERSIONS = """
SELECT sha256, document FROM workflow_version WHERE sha256 = ANY($1)
UNION ALL SELECT sha256, document FROM run_plan WHERE sha256 = ANY($1)
"""
HOLD_WORKFLOW = "SELECT sha256 FROM workflow WHERE namespace = $1 AND name = $2 FOR UPDATE"
SOURCE = "SELECT document FROM source WHERE namespace = $1 AND topic = $2 FOR UPDATE"
PUT_SOURCE = """
INSERT INTO source (namespace, topic, document) VALUES ($1, $2, $3)
ON CONFLICT (namespace, topic) DO UPDATE SET document = excluded.document
"""
TOPICS = "SELECT topic, bool_or(document->>'start' IS DISTINCT FROM 'now') AS from_start FROM source GROUP BY topic"
USED_BY = "SELECT name FROM trigger WHERE namespace = $1 AND topic = $2 AND name <> $3 ORDER BY name"
HOLD_TRIGGER = "SELECT document FROM trigger WHERE namespace = $1 AND name = $2 FOR UPDATE"
PUT_TRIGGER = """
INSERT INTO trigger (namespace, name, topic, workflow, document, principal) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (namespace, name) DO UPDATE SET topic = excluded.topic, workflow = excluded.workflow,
    document = excluded.document, principal = excluded.principal, applied_at = now()
"""
# As text: what is read for every round of records is parsed once per process.
RULES = """
SELECT r.version, s.namespace, s.topic, s.document::text AS source, t.document::text AS trigger, t.principal, w.sha256
FROM rules r LEFT JOIN source s ON s.topic = ANY($1)
LEFT JOIN trigger t ON t.namespace = s.namespace AND t.topic = s.topic
LEFT JOIN workflow w ON w.namespace = t.namespace AND w.name = t.workflow
ORDER BY s.namespace, s.topic, t.name
"""
SAME_RULES = UNEXPECTED.format(what="other rules", where="(SELECT version FROM rules) <> $1")

# Versions never change, so that a plan is worked out once per process.
_plans: dict[str, Plan] = {}
MAX_PLANS = 1_000


@dataclass(frozen=True, slots=True)
class InForce:
    """A trigger in force, on whose behalf its runs are, and the version of its workflow that they get."""

    namespace: str
    trigger: Trigger
    principal: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What is made of the records of some topics.

    Attributes:
        version: Changes with any of it.
        sources: The namespaces that read the topics, and how.
        triggers: Those that listen to them.
    """

    version: UUID
    sources: tuple[tuple[str, Source], ...]
    triggers: tuple[InForce, ...]


# What was last read of the rules, by topics: whoever takes it from here has its version checked where it writes.
_rules: dict[tuple[str, ...], Rules] = {}
MAX_RULES = 1_000


class Definitions(Transaction):
    """What users have put in force, with whoever waits for changes in this process."""

    signals: ClassVar[Signals] = Signals()

    async def workflow(self, namespace: str, name: str, sha256: str = "") -> asyncpg.Record:
        """Return a workflow in force, or one version of it."""
        what = f"workflow {name}{f' {sha256}' if sha256 else ''} in namespace {namespace}"
        return one(await self.fetch(FOUND, namespace, name, sha256), what)

    async def workflows(self, namespace: str) -> list[asyncpg.Record]:
        """Return the workflows in force, by name."""
        return await self.fetch(WORKFLOWS, namespace)

    async def put_workflow(self, namespace: str, workflow: Workflow, principal: str) -> str | None:
        """Put a workflow in force.

        Returns:
            The hash of the version that was before, empty where there was none; None where it is in force already.
        """
        before = await self.fetch(HOLD_WORKFLOW, namespace, workflow.name)
        if before and before[0]["sha256"] == workflow.sha256:
            return None
        self.write(ADD_VERSION, namespace, workflow.sha256, workflow.name, json.dumps(workflow.document()))
        self.write(PUT_WORKFLOW, namespace, workflow.name, workflow.sha256, principal)
        return before[0]["sha256"] if before else ""

    async def plan_in_force(self, namespace: str, name: str) -> Plan:
        """Return the plan that a new run of a workflow gets."""
        row = one(await self.fetch(IN_FORCE, namespace, name), f"workflow {name} in namespace {namespace}")
        return _plan(row["sha256"], row["document"])

    async def plans(self, sha256s: Iterable[str]) -> dict[str, Plan]:
        """Return plans by their versions."""
        wanted = set(sha256s)
        missing = wanted - _plans.keys()
        if missing:
            for row in await self.fetch(VERSIONS, list(missing)):
                _plan(row["sha256"], row["document"])
        return {sha256: _plans[sha256] for sha256 in wanted}

    async def hold_source(self, namespace: str, topic: str) -> Source | None:
        """Return the source of a topic, locked; None when there is none yet."""
        rows = await self.fetch(SOURCE, namespace, topic)
        return Source.model_validate(rows[0]["document"]) if rows else None

    def put_source(self, namespace: str, source: Source) -> None:
        """Keep how a topic is read."""
        self.write(PUT_SOURCE, namespace, source.topic, source.model_dump(mode="json", exclude_none=True))
        self.on_commit(self.signals.source_applied)

    async def triggers_of(self, namespace: str, topic: str, *, but: str) -> list[str]:
        """Return the names of a topic's triggers, all but one."""
        return [row["name"] for row in await self.fetch(USED_BY, namespace, topic, but)]

    async def hold_trigger(self, namespace: str, name: str) -> Trigger | None:
        """Return a trigger, locked; None when there is none yet."""
        rows = await self.fetch(HOLD_TRIGGER, namespace, name)
        return Trigger.model_validate(rows[0]["document"]) if rows else None

    def put_trigger(self, namespace: str, trigger: Trigger, principal: str) -> None:
        """Put a trigger in force."""
        document = trigger.model_dump(mode="json", exclude_none=True)
        self.write(PUT_TRIGGER, namespace, trigger.name, trigger.source.topic, trigger.workflow, document, principal)

    async def rules(self, topics: Sequence[str]) -> Rules:
        """Return the namespaces that read some topics, and how, and the triggers that listen to them."""
        wanted = tuple(topics)
        if self.hopes and (known := _rules.get(wanted)):
            self.hope(SAME_RULES, known.version)
            return known
        rows = await self.fetch(RULES, list(topics))
        found = [row for row in rows if row["source"] is not None]
        sources = {(row["namespace"], row["topic"]): _source(row["source"]) for row in found}
        triggers = tuple(
            InForce(row["namespace"], _trigger(row["trigger"]), row["principal"], row["sha256"])
            for row in found
            if row["trigger"] is not None
        )
        in_order = tuple((namespace, source) for (namespace, _), source in sources.items())
        rules = Rules(rows[0]["version"], in_order, triggers)
        self.on_commit(lambda: _remember(wanted, rules))
        return rules

    async def topics(self) -> dict[str, bool]:
        """Return every source's topic, and whether it is read from its start."""
        return {row["topic"]: row["from_start"] for row in await self.fetch(TOPICS)}


def _remember(topics: tuple[str, ...], rules: Rules) -> None:
    if len(_rules) >= MAX_RULES:
        _rules.clear()
    _rules[topics] = rules


_source = lru_cache(maxsize=1_000)(Source.model_validate_json)
_trigger = lru_cache(maxsize=1_000)(Trigger.model_validate_json)


def _plan(sha256: str, document: str) -> Plan:
    if sha256 not in _plans:
        if len(_plans) >= MAX_PLANS:
            _plans.clear()
        _plans[sha256] = compile_plan(parse_planned(json.loads(document)))
    return _plans[sha256]
