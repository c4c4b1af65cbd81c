-- Tasks with bodies: a record may be of a scope, may wait without a worker, and says how far it is.
ALTER TABLE task ADD COLUMN began_at timestamptz, ADD COLUMN outcome text, ADD COLUMN inner_state jsonb;
ALTER TABLE task DROP CONSTRAINT task_state_check, DROP CONSTRAINT task_check;
ALTER TABLE task ADD CONSTRAINT task_state_check CHECK (state IN ('dispatched', 'running', 'cancelling', 'retry_wait',
    'waiting', 'open', 'closing', 'succeeded', 'skipped', 'failed', 'cancelled')) NOT VALID;
-- What waits for somebody or for a moment always has something that wakes it, and what is settled has nothing.
ALTER TABLE task ADD CONSTRAINT task_wakes CHECK (CASE
    WHEN state IN ('dispatched', 'running', 'cancelling', 'retry_wait', 'waiting') THEN due_at IS NOT NULL
    WHEN state IN ('open', 'closing') THEN true
    ELSE due_at IS NULL END) NOT VALID;

-- Records of scopes that are over: no decision needs them, so that one about a run with very many tasks reads few.
CREATE TABLE task_past (LIKE task, PRIMARY KEY (run_id, name));

ALTER TABLE run ADD COLUMN output jsonb;
