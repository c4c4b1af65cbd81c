"""All SQL of lineage, on one transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from millrace.lineage.domain.graph import STATE_RANK, Answer, Graph, Run, Saying
from millrace.lineage.domain.walk import Pair, newest
from millrace.runtime.transaction import Transaction

# Rows come sorted by key, so that two writers wait for one another rather than deadlock.
KEEP_NODES = """
INSERT INTO node AS kept (namespace, id, known_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[])
ON CONFLICT (namespace, id) DO UPDATE SET known_at = excluded.known_at WHERE excluded.known_at < kept.known_at
"""
KEEP_EDGES = """
INSERT INTO edge AS kept (namespace, from_node, to_node, known_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
ON CONFLICT (namespace, from_node, to_node) DO UPDATE SET known_at = excluded.known_at
WHERE excluded.known_at < kept.known_at
"""
KEEP_FACTS = """
INSERT INTO fact AS kept (namespace, node, name, at, event_id, value)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[])
ON CONFLICT (namespace, node, name, at, event_id) DO UPDATE SET value = excluded.value
WHERE excluded.value COLLATE "C" > kept.value COLLATE "C"
"""
KEEP_RUNS = """
INSERT INTO run AS kept (namespace, node, rank, state_at, state, started_at, ended_at)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::smallint[], $4::timestamptz[], $5::text[], $6::timestamptz[], $7::timestamptz[]
)
ON CONFLICT (namespace, node) DO UPDATE SET
    rank = CASE WHEN (excluded.rank, excluded.state_at, excluded.state) > (kept.rank, kept.state_at, kept.state)
        THEN excluded.rank ELSE kept.rank END,
    state_at = CASE WHEN (excluded.rank, excluded.state_at, excluded.state) > (kept.rank, kept.state_at, kept.state)
        THEN excluded.state_at ELSE kept.state_at END,
    state = CASE WHEN (excluded.rank, excluded.state_at, excluded.state) > (kept.rank, kept.state_at, kept.state)
        THEN excluded.state ELSE kept.state END,
    started_at = LEAST(kept.started_at, excluded.started_at),
    ended_at = GREATEST(kept.ended_at, excluded.ended_at)
"""
KEEP_ANSWERS = """
INSERT INTO prediction_lookup AS kept (namespace, prediction_id, predicted_at, deployment, detail)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[])
ON CONFLICT (namespace, prediction_id) DO UPDATE SET
    predicted_at = excluded.predicted_at, deployment = excluded.deployment, detail = excluded.detail
WHERE (excluded.predicted_at, excluded.deployment COLLATE "C", excluded.detail)
    > (kept.predicted_at, kept.deployment COLLATE "C", kept.detail)
"""
UPSTREAM = """
SELECT from_node, to_node FROM edge
WHERE namespace = $1 AND to_node = ANY($2::text[]) AND known_at <= $3 ORDER BY from_node, to_node LIMIT $4
"""
DOWNSTREAM = """
SELECT from_node, to_node FROM edge
WHERE namespace = $1 AND from_node = ANY($2::text[]) AND known_at <= $3 ORDER BY from_node, to_node LIMIT $4
"""
NODES = "SELECT id FROM node WHERE namespace = $1 AND id = ANY($2::text[]) AND known_at <= $3"
FACTS = """
SELECT DISTINCT ON (node, name) node, name, at, event_id, value FROM fact
WHERE namespace = $1 AND node = ANY($2::text[]) AND at <= $3 ORDER BY node, name, at DESC, event_id COLLATE "C" DESC
"""
RUNS = """
SELECT node, state, state_at, started_at, ended_at FROM run
WHERE namespace = $1 AND node = ANY($2::text[]) AND state_at <= $3
"""
ANSWER = "SELECT predicted_at, deployment, detail FROM prediction_lookup WHERE namespace = $1 AND prediction_id = $2"
FORGET_ANSWERS = """
DELETE FROM prediction_lookup WHERE (namespace, prediction_id) IN (
    SELECT namespace, prediction_id FROM prediction_lookup WHERE predicted_at < $1 ORDER BY predicted_at LIMIT $2
) RETURNING 1
"""
ALL_NODES = "SELECT namespace, id, known_at FROM node"
ALL_EDGES = "SELECT namespace, from_node, to_node, known_at FROM edge"
ALL_FACTS = "SELECT namespace, node, name, at, event_id, value FROM fact"
ALL_RUNS = "SELECT namespace, node, state, state_at, started_at, ended_at FROM run"
ALL_ANSWERS = "SELECT namespace, prediction_id, predicted_at, deployment, detail FROM prediction_lookup"


class Store(Transaction):
    """The lineage graph and the look-up of predictions."""

    def join(self, part: Graph) -> None:
        """Take in a part of the graph; it may be taken in again, and in any order with others."""
        self._keep(KEEP_NODES, [(*node, at) for node, at in sorted(part.nodes.items())])
        self._keep(KEEP_EDGES, [(*edge, at) for edge, at in sorted(part.edges.items())])
        facts = sorted(part.facts.items())
        self._keep(KEEP_FACTS, [(s.namespace, s.node, s.name, s.at, s.event_id, text) for s, text in facts])
        runs = [(node, part.runs[node]) for node in sorted(part.runs)]
        self._keep(
            KEEP_RUNS,
            [
                (*node, STATE_RANK[run.state], run.state_at, run.state, run.started_at, run.ended_at)
                for node, run in runs
            ],
        )
        answers = sorted(part.answers.items())
        self._keep(KEEP_ANSWERS, [(*key, a.predicted_at, a.deployment, a.detail) for key, a in answers])

    async def edges(
        self, namespace: str, nodes: Sequence[str], as_of: datetime, limit: int, *, upstream: bool
    ) -> list[Pair]:
        """Return up to `limit` edges that end (upstream) or begin in any of the nodes."""
        rows = await self.fetch(UPSTREAM if upstream else DOWNSTREAM, namespace, list(nodes), as_of, limit)
        return [(row["from_node"], row["to_node"]) for row in rows]

    async def known(self, namespace: str, nodes: Sequence[str], as_of: datetime) -> set[str]:
        """Return those of the nodes that had been heard of."""
        return {row["id"] for row in await self.fetch(NODES, namespace, list(nodes), as_of)}

    async def facts(self, namespace: str, nodes: Sequence[str], as_of: datetime) -> dict[str, dict[str, Any]]:
        """Return what stood of each node; nodes of which nothing was said are left out."""
        said: dict[str, list[tuple[datetime, str, str, str]]] = {}
        for row in await self.fetch(FACTS, namespace, list(nodes), as_of):
            said.setdefault(row["node"], []).append((row["at"], row["event_id"], row["name"], row["value"]))
        return {node: newest((name, value) for _, _, name, value in sorted(sayings)) for node, sayings in said.items()}

    async def runs(self, namespace: str, nodes: Sequence[str], as_of: datetime) -> Mapping[str, Run]:
        """Return how far each of the runs had come, as far as it is known by its newest state."""
        rows = await self.fetch(RUNS, namespace, list(nodes), as_of)
        return {row["node"]: Run(row["state"], row["state_at"], row["started_at"], row["ended_at"]) for row in rows}

    async def answer(self, namespace: str, prediction_id: str) -> Answer | None:
        """Return a logged prediction; none when its detail has not arrived, or is kept no longer."""
        rows = await self.fetch(ANSWER, namespace, prediction_id)
        return Answer(**rows[0]) if rows else None

    async def forget_answers(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` predictions older than `before`, the oldest first; return how many."""
        return len(await self.fetch(FORGET_ANSWERS, before, limit))

    async def graph(self) -> Graph:
        """Return all of it."""
        return Graph(
            nodes={(r["namespace"], r["id"]): r["known_at"] for r in await self.fetch(ALL_NODES)},
            edges={(r["namespace"], r["from_node"], r["to_node"]): r["known_at"] for r in await self.fetch(ALL_EDGES)},
            facts={
                Saying(r["namespace"], r["node"], r["name"], r["at"], r["event_id"]): r["value"]
                for r in await self.fetch(ALL_FACTS)
            },
            runs={
                (r["namespace"], r["node"]): Run(r["state"], r["state_at"], r["started_at"], r["ended_at"])
                for r in await self.fetch(ALL_RUNS)
            },
            answers={
                (r["namespace"], r["prediction_id"]): Answer(r["predicted_at"], r["deployment"], r["detail"])
                for r in await self.fetch(ALL_ANSWERS)
            },
        )

    def _keep(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            self.write(statement, *map(list, zip(*rows, strict=True)))
