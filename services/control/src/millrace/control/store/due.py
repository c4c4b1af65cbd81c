"""What is due: of runs, of results, of triggers, of schedules and of pools, found by one statement."""

from dataclasses import dataclass

from millrace.control.domain.admission import POOLS
from millrace.control.domain.results import PREFIX
from millrace.control.domain.schedules import schedule_of
from millrace.control.store.rows import holds_up

# What is due, what has mail, keys of results that have, and triggers of which something is due: events that have waited
# long enough, events that came while one was paused, runs whose turn has come.
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
