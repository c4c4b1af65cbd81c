"""All SQL of observability, on one transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from millrace.observability.domain import Attempt, Price, Run, Series, Told
from millrace.runtime.errors import NotFound
from millrace.runtime.transaction import Transaction, one

# Rows come sorted by key, so that two writers wait for one another rather than deadlock.
KEEP_ATTEMPTS = """
INSERT INTO attempt AS kept
SELECT * FROM unnest($1::text[], $2::uuid[], $3::int[], $4::uuid[], $5::text[], $6::text[], $7::text[],
    $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[], $12::float8[], $13::float8[])
ON CONFLICT (namespace, task_id, attempt) DO UPDATE SET
    dispatched_at = coalesce(kept.dispatched_at, excluded.dispatched_at),
    (ended_at, outcome, error, duration_s, cpu_s) = (
        SELECT e.ended_at, e.outcome, e.error, e.duration_s, e.cpu_s FROM (VALUES
            (kept.ended_at, kept.outcome, kept.error, kept.duration_s, kept.cpu_s),
            (excluded.ended_at, excluded.outcome, excluded.error, excluded.duration_s, excluded.cpu_s)
        ) AS e(ended_at, outcome, error, duration_s, cpu_s)
        ORDER BY e.ended_at NULLS LAST, e.outcome LIMIT 1
    )
"""
KEEP_RUNS = """
INSERT INTO run AS kept
    (namespace, run_id, workflow, trigger, principal, started_at, ended_at, state, cause, duration_s)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
    $8::text[], $9::text[], $10::float8[])
ON CONFLICT (namespace, run_id) DO UPDATE SET
    trigger = CASE WHEN kept.started_at IS NULL THEN excluded.trigger ELSE kept.trigger END,
    principal = CASE WHEN kept.started_at IS NULL THEN excluded.principal ELSE kept.principal END,
    started_at = coalesce(kept.started_at, excluded.started_at),
    state = CASE WHEN kept.ended_at IS NULL THEN excluded.state ELSE kept.state END,
    cause = CASE WHEN kept.ended_at IS NULL THEN excluded.cause ELSE kept.cause END,
    duration_s = coalesce(kept.duration_s, excluded.duration_s),
    ended_at = coalesce(kept.ended_at, excluded.ended_at)
"""
ADD_LAGS = """
INSERT INTO lag AS kept (namespace, topic, minute, events, sum_s, max_s)
SELECT namespace, topic, date_trunc('minute', now()), events, sum_s, max_s
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::float8[], $5::float8[])
    AS told(namespace, topic, events, sum_s, max_s)
ON CONFLICT (namespace, topic, minute) DO UPDATE SET
    events = kept.events + excluded.events,
    sum_s = kept.sum_s + excluded.sum_s,
    max_s = greatest(kept.max_s, excluded.max_s)
"""
FORGET_ATTEMPTS = """
DELETE FROM attempt WHERE (namespace, task_id, attempt) IN (
    SELECT namespace, task_id, attempt FROM attempt WHERE ended_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING 1
"""
FORGET_RUNS = """
DELETE FROM run WHERE (namespace, run_id) IN (
    SELECT namespace, run_id FROM run WHERE ended_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING 1
"""
FORGET_LAGS = """
DELETE FROM lag WHERE (namespace, topic, minute) IN (
    SELECT namespace, topic, minute FROM lag WHERE minute < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING 1
"""
SET_PRICE = """
INSERT INTO price (since, per_cpu_hour, currency)
SELECT CASE WHEN EXISTS (SELECT FROM price) THEN now() ELSE '-infinity' END, $1, $2
WHERE NOT EXISTS (
    SELECT FROM (SELECT per_cpu_hour, currency FROM price ORDER BY since DESC LIMIT 1) AS newest
    WHERE per_cpu_hour = $1 AND currency = $2
)
ON CONFLICT (since) DO NOTHING
"""
PRICE = "SELECT per_cpu_hour, currency FROM price WHERE since <= $1 ORDER BY since DESC LIMIT 1"
RUN = """
SELECT workflow, trigger, principal, started_at, ended_at, coalesce(state, '') AS state, cause, duration_s
FROM run WHERE namespace = $1 AND run_id = $2
"""
ATTEMPTS = """
SELECT run_id, workflow, task, kind, dispatched_at, ended_at, coalesce(outcome, '') AS outcome, error, duration_s, cpu_s
FROM attempt WHERE namespace = $1 AND run_id = $2
ORDER BY coalesce(dispatched_at, ended_at), task, attempt
"""

# Each gives (at, value, run_id, labels) of a namespace ($1) from ($2) and until ($3).
METRICS = {
    "run_duration_s": """
        SELECT ended_at AS at, duration_s AS value, run_id,
            jsonb_build_object('workflow', workflow, 'state', state) AS labels
        FROM run WHERE namespace = $1 AND ended_at >= $2 AND ended_at < $3""",
    "runs": """
        SELECT date_trunc('minute', ended_at) AS at, count(*)::float8 AS value, NULL::uuid AS run_id,
            jsonb_build_object('workflow', workflow, 'state', state) AS labels
        FROM run WHERE namespace = $1 AND ended_at >= $2 AND ended_at < $3 GROUP BY 1, workflow, state""",
    "task_duration_s": """
        SELECT ended_at AS at, duration_s AS value, run_id,
            jsonb_build_object('workflow', workflow, 'task', task, 'kind', kind, 'outcome', outcome) AS labels
        FROM attempt WHERE namespace = $1 AND ended_at >= $2 AND ended_at < $3""",
    "task_queue_s": """
        SELECT ended_at AS at, run_id,
            greatest(0, extract(epoch FROM ended_at - dispatched_at) - duration_s)::float8 AS value,
            jsonb_build_object('workflow', workflow, 'task', task, 'kind', kind) AS labels
        FROM attempt
        WHERE namespace = $1 AND ended_at >= $2 AND ended_at < $3 AND dispatched_at IS NOT NULL AND duration_s > 0""",
    "events": """
        SELECT minute AS at, events::float8 AS value, NULL::uuid AS run_id, jsonb_build_object('topic', topic) AS labels
        FROM lag WHERE namespace = $1 AND minute >= $2 AND minute < $3""",
    "lag_s": """
        SELECT minute AS at, value, NULL::uuid AS run_id,
            jsonb_build_object('topic', topic, 'statistic', statistic) AS labels
        FROM lag CROSS JOIN LATERAL (VALUES ('mean', sum_s / events), ('max', max_s)) AS s(statistic, value)
        WHERE namespace = $1 AND minute >= $2 AND minute < $3""",
    "cost": """
        SELECT r.ended_at AS at, (sum(a.cpu_s)::numeric * p.per_cpu_hour / 3600)::float8 AS value, r.run_id,
            jsonb_build_object('workflow', r.workflow, 'currency', p.currency) AS labels
        FROM run r JOIN attempt a ON a.namespace = r.namespace AND a.run_id = r.run_id
        CROSS JOIN LATERAL (
            SELECT per_cpu_hour, currency FROM price
            WHERE since <= coalesce(r.started_at, r.ended_at) ORDER BY since DESC LIMIT 1
        ) AS p
        WHERE r.namespace = $1 AND r.ended_at >= $2 AND r.ended_at < $3
        GROUP BY r.ended_at, r.run_id, r.workflow, p.per_cpu_hour, p.currency""",
}
SERIES = """
SELECT labels, array_agg(at ORDER BY at) AS times, array_agg(value ORDER BY at) AS values FROM (
    SELECT at, value, labels FROM ({metric}) AS metric
    WHERE labels || jsonb_build_object('run_id', run_id::text) @> $4::jsonb LIMIT $5
) AS point GROUP BY labels ORDER BY labels::text
"""


class Store(Transaction):
    """What was told of runs and tasks, and the prices."""

    def keep(self, told: Told) -> None:
        """Keep what a batch of events tells."""
        attempts = [(*key, *_attempt_columns(told.attempts[key])) for key in sorted(told.attempts)]
        self._write_all(KEEP_ATTEMPTS, attempts)
        runs = [(*key, *_run_columns(told.runs[key])) for key in sorted(told.runs)]
        self._write_all(KEEP_RUNS, runs)
        lags = [(*key, told.lags[key]) for key in sorted(told.lags)]
        self._write_all(ADD_LAGS, [(*key, lag.events, lag.sum_s, lag.max_s) for *key, lag in lags])

    def set_price(self, price: Price) -> None:
        """Let a price hold from now on, unless it does already; the first one holds for all that was before."""
        self.write(SET_PRICE, price.per_cpu_hour, price.currency)

    async def price(self, at: datetime) -> Price:
        """Return the price that held at some time."""
        return Price(**one(await self.fetch(PRICE, at), "a price"))

    async def run(self, namespace: str, run_id: UUID) -> tuple[Run | None, Sequence[Attempt]]:
        """Return a run, if its own events came, and the attempts of its tasks, in order of dispatch.

        Raises:
            NotFound: Nothing was told of it.
        """
        runs = await self.fetch(RUN, namespace, run_id)
        attempts = await self.fetch(ATTEMPTS, namespace, run_id)
        if not runs and not attempts:
            raise NotFound(f"run {run_id} is not known in namespace {namespace}")
        return Run(**runs[0]) if runs else None, [Attempt(**row) for row in attempts]

    async def series(
        self, namespace: str, metric: str, *, start: datetime, end: datetime, labels: Mapping[str, str], limit: int
    ) -> list[Series]:
        """Return a metric's series with the labels, with up to `limit` points in all."""
        sql = SERIES.format(metric=METRICS[metric])
        rows = await self.fetch(sql, namespace, start, end, dict(labels), limit)
        return [Series(row["labels"], list(zip(row["times"], row["values"], strict=True))) for row in rows]

    async def forget_attempts(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` attempts that ended before a moment; return how many."""
        return len(await self.fetch(FORGET_ATTEMPTS, before, limit))

    async def forget_runs(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` runs that ended before a moment; return how many."""
        return len(await self.fetch(FORGET_RUNS, before, limit))

    async def forget_lags(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` minutes of lag from before a moment; return how many."""
        return len(await self.fetch(FORGET_LAGS, before, limit))

    def _write_all(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            self.write(statement, *map(list, zip(*rows, strict=True)))


def _attempt_columns(a: Attempt) -> tuple[Any, ...]:
    end = (a.ended_at, a.outcome or None, a.error, a.duration_s, a.cpu_s)
    return (a.run_id, a.workflow, a.task, a.kind, a.dispatched_at, *end)


def _run_columns(r: Run) -> tuple[Any, ...]:
    end = (r.ended_at, r.state or None, r.cause, r.duration_s)
    return (r.workflow, r.trigger, r.principal, r.started_at, *end)
