-- outside a transaction
-- What waits for people.
CREATE INDEX CONCURRENTLY IF NOT EXISTS task_waiting ON task (run_id) WHERE state = 'waiting';
