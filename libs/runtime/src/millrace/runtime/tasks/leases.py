"""What happens to the rows of leased attempts, as SQL."""

# Said so that the index of what is leased does not answer it where attempts are named: that keeps an entry of each that
# has ended until the next vacuum, and a plan made while the table was small would go through all of them each time.
_IS_LEASED = "job.state || '' = 'leased'"

ACCEPT_NEW = """
INSERT INTO job (task_id, attempt, token, namespace, kind, dispatched, state, owner)
SELECT t.task_id, t.attempt, t.token, t.namespace, t.kind, t.dispatched::jsonb, 'leased', $7
FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::text[], $6::text[])
    AS t(task_id, attempt, token, namespace, kind, dispatched)
"""
# What another token has there was begun along a chain that does not count, or keeps that from being begun: it gives way
# to what is ordered.
ACCEPT = f"""{ACCEPT_NEW} ON CONFLICT (task_id, attempt) DO UPDATE SET token = excluded.token, kind = excluded.kind,
    dispatched = excluded.dispatched, state = 'leased', owner = excluded.owner, heartbeat_at = now()
WHERE job.token <> excluded.token RETURNING task_id, attempt
"""
GO_ON = f"{ACCEPT_NEW} ON CONFLICT (task_id, attempt) DO NOTHING RETURNING task_id, attempt"
# A cancel may come before what it cancels: its row then keeps the attempt from being accepted.
CANCEL = """
INSERT INTO job (task_id, attempt, token, namespace, kind, dispatched, state)
VALUES ($1, $2, $3, $4, '', '{}', 'cancelled')
ON CONFLICT (task_id, attempt) DO UPDATE SET state = 'cancelled'
    WHERE job.state = 'leased' AND job.token = excluded.token
RETURNING kind, dispatched
"""
# Whoever has the lease sees with its next beat that nothing follows.
CUT = f"""
UPDATE job SET dispatched = dispatched - 'chain'
WHERE task_id = $1 AND attempt = $2 AND token = $3 AND {_IS_LEASED}
"""
WAS_CANCELLED = "SELECT 1 FROM job WHERE task_id = $1 AND attempt = $2 AND state = 'cancelled' AND kind = ''"
# A lease that has lapsed ends nothing: control may have given the task to somebody else.
END = f"""
UPDATE job SET state = CASE WHEN t.ok THEN 'done' ELSE 'failed' END
FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::bool[]) AS t(task_id, attempt, token, ok)
WHERE job.task_id = t.task_id AND job.attempt = t.attempt AND job.token = t.token AND {_IS_LEASED}
    AND job.heartbeat_at >= now() - make_interval(secs => (job.dispatched->>'heartbeat_timeout_s')::float)
RETURNING job.task_id, job.attempt
"""
BEAT = f"""
UPDATE job SET heartbeat_at = now()
FROM unnest($1::uuid[], $2::int[]) AS t(task_id, attempt)
WHERE job.task_id = t.task_id AND job.attempt = t.attempt AND {_IS_LEASED} AND job.owner = $3
RETURNING job.task_id, job.attempt, job.dispatched ? 'chain' AS chained
"""
# What an attempt leaves to the next one stands in its own order, as if control had said so.
CARRY = f"""
UPDATE job SET heartbeat_at = now(), dispatched = jsonb_set(job.dispatched, '{{carried}}', t.carried::jsonb)
FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::text[]) AS t(task_id, attempt, token, carried)
WHERE job.task_id = t.task_id AND job.attempt = t.attempt AND job.token = t.token AND {_IS_LEASED}
    AND job.owner = $5
RETURNING job.task_id, job.attempt
"""
# Newer than what control knew when it said the next attempt: that may have been told later, or not at all.
CARRIED = """
SELECT job.task_id, job.dispatched->'carried' AS carried
FROM unnest($1::uuid[], $2::int[]) AS t(task_id, attempt)
JOIN job ON job.task_id = t.task_id AND job.attempt = t.attempt - 1
WHERE jsonb_typeof(job.dispatched->'carried') = 'object'
"""
END_FORMER_LIFE = "UPDATE job SET state = 'failed' WHERE state = 'leased' AND owner = $1 RETURNING dispatched"
END_LAPSED = """
UPDATE job SET state = 'failed' WHERE (task_id, attempt) IN (
    SELECT task_id, attempt FROM job WHERE state = 'leased'
        AND heartbeat_at < now() - make_interval(secs => (dispatched->>'heartbeat_timeout_s')::float)
    ORDER BY task_id, attempt FOR UPDATE SKIP LOCKED)
RETURNING dispatched
"""
