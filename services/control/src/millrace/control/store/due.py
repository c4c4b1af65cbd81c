"""What is due: of runs, of results, of triggers, of schedules and of pools, and when the next is, by one statement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
from millrace.control.domain.admission import POOLS
from millrace.control.domain.results import PREFIX
from millrace.control.domain.schedules import schedule_of
from millrace.control.store.rows import holds_up

# What is due, what has mail, keys of results that have, and triggers of which something is due: events that have waited
# long enough, tasks that have begun to wait for one, events that came while one was paused, runs whose turn has come.
DUE = f"""
SELECT * FROM (
    SELECT run_id, NULL AS namespace, NULL AS trigger_name FROM run WHERE due_at <= now()
    UNION
    SELECT run_id, NULL, NULL FROM task WHERE due_at <= now()
    UNION
    SELECT run_id, NULL, NULL FROM run WHERE deadline_at <= now()
    UNION
    SELECT run_id, NULL, NULL FROM task WHERE deadline_at <= now()
    UNION
    SELECT run_id, NULL, NULL FROM mail JOIN run USING (run_id)
    LIMIT 400
) AS runs
UNION ALL
SELECT DISTINCT NULL::uuid, namespace, '{PREFIX}' || key FROM (
    SELECT namespace, key FROM result_mail WHERE NOT waits ORDER BY mail_id LIMIT 400
) AS results
UNION ALL
SELECT * FROM (
    SELECT NULL::uuid, t.namespace, t.name FROM trigger t
    LEFT JOIN LATERAL (
        SELECT place FROM run WHERE namespace = t.namespace AND trigger_name = t.name AND place IS NOT NULL
            AND started_at IS NULL AND ended_at IS NULL ORDER BY place LIMIT 1
    ) AS next ON true
    LEFT JOIN LATERAL (
        SELECT CASE t.document->>'strategy' WHEN 'parallel' THEN (t.document->>'limit')::int ELSE 1 END AS runs
    ) AS width ON true
    WHERE (t.admitted < t.queued OR t.draining) AND t.paused_at IS NULL AND (
        t.draining OR (t.admit_at IS NULL OR t.admit_at <= now())
        AND (t.document->>'strategy' <> 'strict_sequence'
            OR NOT {holds_up("t.last_run")})
        AND (next.place IS NULL OR width.runs IS NULL OR width.runs > (
            SELECT count(*) FROM (
                SELECT FROM run r WHERE r.namespace = t.namespace AND r.trigger_name = t.name AND r.place IS NOT NULL
                    AND r.ended_at IS NULL AND r.place < next.place ORDER BY r.place LIMIT width.runs
            ) AS begun)))
    UNION
    SELECT NULL, g.namespace, g.trigger
    FROM (SELECT DISTINCT namespace, trigger FROM gathering WHERE due_at <= now()) AS g
    JOIN trigger t ON (t.namespace, t.name) = (g.namespace, g.trigger) AND t.paused_at IS NULL
    UNION
    SELECT NULL, a.namespace, a.trigger
    FROM (SELECT DISTINCT namespace, trigger FROM awaited WHERE fresh) AS a
    JOIN trigger t ON (t.namespace, t.name) = (a.namespace, a.trigger) AND t.workflow IS NULL AND t.paused_at IS NULL
    LIMIT 100
) AS triggers
UNION ALL
SELECT * FROM (
    SELECT NULL::uuid, namespace, 'schedule/' || name FROM schedule WHERE next_at <= now()
    UNION
    SELECT NULL, s.namespace, 'schedule/' || s.name FROM schedule s
    LEFT JOIN LATERAL (
        SELECT place FROM run WHERE namespace = s.namespace AND trigger_name = 'schedule/' || s.name
            AND place IS NOT NULL AND started_at IS NULL AND ended_at IS NULL ORDER BY place LIMIT 1
    ) AS next ON true
    LEFT JOIN LATERAL (
        SELECT CASE s.document->>'strategy' WHEN 'parallel' THEN (s.document->>'limit')::int ELSE 1 END AS runs
    ) AS width ON true
    WHERE s.waits AND s.paused_at IS NULL AND (s.document->>'strategy' <> 'strict_sequence'
            OR NOT {holds_up("s.last_run")})
        AND (next.place IS NULL OR width.runs IS NULL OR width.runs > (
            SELECT count(*) FROM (
                SELECT FROM run r WHERE r.namespace = s.namespace AND r.trigger_name = 'schedule/' || s.name
                    AND r.place IS NOT NULL AND r.ended_at IS NULL AND r.place < next.place
                ORDER BY r.place LIMIT width.runs
            ) AS begun))
    UNION
    SELECT NULL, b.namespace, 'schedule/' || b.schedule FROM backfill b
    WHERE b.state = 'running' AND CASE WHEN b.more THEN b.at_once ELSE 1 END > (
        SELECT count(*) FROM (
            SELECT FROM run r WHERE r.namespace = b.namespace
                AND r.trigger_name = 'backfill/' || b.schedule || '/' || b.backfill_id
                AND r.place IS NOT NULL AND r.ended_at IS NULL ORDER BY r.place LIMIT b.at_once
        ) AS open)
    LIMIT 100
) AS schedules
UNION ALL
SELECT * FROM (SELECT NULL::uuid, namespace, '{POOLS}' FROM admission WHERE due_at <= now() LIMIT 100) AS pools
"""
# When something is due of itself that is not yet; the first of each by its index.
NEXT = """
SELECT min(at) FROM (
    (SELECT due_at AS at FROM run WHERE due_at > now() ORDER BY due_at LIMIT 1)
    UNION ALL (SELECT due_at FROM task WHERE due_at > now() ORDER BY due_at LIMIT 1)
    UNION ALL (SELECT deadline_at FROM run WHERE deadline_at > now() ORDER BY deadline_at LIMIT 1)
    UNION ALL (SELECT deadline_at FROM task WHERE deadline_at > now() ORDER BY deadline_at LIMIT 1)
    UNION ALL (SELECT admit_at FROM trigger WHERE (admitted < queued OR draining) AND paused_at IS NULL
        AND admit_at > now() ORDER BY admit_at LIMIT 1)
    UNION ALL (SELECT due_at FROM gathering WHERE due_at > now() ORDER BY due_at LIMIT 1)
    UNION ALL (SELECT next_at FROM schedule WHERE next_at > now() ORDER BY next_at LIMIT 1)
    UNION ALL (SELECT due_at FROM admission WHERE due_at > now() ORDER BY due_at LIMIT 1)
) AS each
"""
TOPICS = "SELECT topic, bool_or(document->>'start' IS DISTINCT FROM 'now') AS from_start FROM source GROUP BY topic"
POST_CHAINS = "0017_post_chains.sql"
CHAINS = f"SELECT FROM schema_version WHERE package = 'millrace.control' AND migration = '{POST_CHAINS}'"
# All that a replica looks for now and then comes with one look: an idle one asks for nothing else.
LOOK = f"""
SELECT now(), extract(epoch FROM ({NEXT}) - now())::float AS next_s,
    (SELECT coalesce(jsonb_agg(jsonb_build_array(run_id, namespace, trigger_name)), '[]') FROM ({DUE}) AS due) AS due,
    (SELECT coalesce(jsonb_object_agg(topic, from_start), '{{}}') FROM ({TOPICS}) AS t) AS topics,
    EXISTS ({CHAINS}) AS chains,
    (SELECT coalesce(jsonb_object_agg(name, live), '{{}}') FROM queue WHERE transport = 'kafka') AS queues,
    ARRAY(SELECT name FROM queue q WHERE transport = 'grpc' AND EXISTS (
        SELECT FROM task_lease l WHERE l.queue = q.name AND l.worker IS NULL AND l.ended_at IS NULL)) AS waiting
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """A trigger of which something is due, or a schedule, the pools of a namespace, or the key of a result."""

    namespace: str
    trigger: str

    @property
    def schedule(self) -> str:
        """Return the schedule that it is about; empty where it is about a trigger."""
        return schedule_of(self.trigger)

    @property
    def of_pools(self) -> bool:
        """Return whether it is about the namespace's pools."""
        return self.trigger == POOLS

    @property
    def key(self) -> str:
        """Return the key of the result that it is about; empty where it is about something else."""
        return self.trigger.removeprefix(PREFIX) if self.trigger.startswith(PREFIX) else ""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look finds.

    Attributes:
        runs: Of which something is due.
        turns: The triggers, schedules, pools and results of which something is.
        next_s: When the next is that is not due yet, seconds; None where nothing waits for its time.
        topics: What sources name, topics and patterns, and whether each is read from its start.
        queues: Those that have topics, and whether these are known to be there.
        waiting: Those in which tasks wait to be leased.
        chains: Whether orders may say what their workers may go on with.
    """

    runs: Sequence[UUID]
    turns: Sequence[Turn]
    next_s: float | None
    topics: Mapping[str, bool]
    queues: Mapping[str, bool]
    waiting: Sequence[str]
    chains: bool


def look_of(row: asyncpg.Record) -> Look:
    """Return what `LOOK` has found."""
    return Look(
        runs=[UUID(run_id) for run_id, *_ in row["due"] if run_id is not None],
        turns=[Turn(namespace, name) for _, namespace, name in row["due"] if namespace is not None],
        **{name: row[name] for name in ("next_s", "topics", "queues", "waiting", "chains")},
    )
