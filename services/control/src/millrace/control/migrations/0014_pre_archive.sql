-- outside a transaction
-- Runs that have ended, out of the way of those that go on: divided by when they were made, which is how their ids begin,
-- so that a run's id says where it is, and what has been kept long enough goes as a whole table. Each statement bears to
-- be done again.
SET lock_timeout = '1s';

-- Rows are moved as they are: a column that is added to one of these tables is added here first. Housekeeping, which
-- alone writes here, makes the tables that these consist of when it needs them.
CREATE TABLE IF NOT EXISTS run_archive (LIKE run, PRIMARY KEY (run_id)) PARTITION BY RANGE (run_id);
CREATE INDEX IF NOT EXISTS run_archive_listed ON run_archive (namespace, run_id);
CREATE INDEX IF NOT EXISTS run_archive_reruns ON run_archive (rerun_of) WHERE rerun_of IS NOT NULL;
CREATE TABLE IF NOT EXISTS task_archive (LIKE task, PRIMARY KEY (run_id, name)) PARTITION BY RANGE (run_id);
CREATE TABLE IF NOT EXISTS task_past_archive (LIKE task_past, PRIMARY KEY (run_id, name)) PARTITION BY RANGE (run_id);
CREATE TABLE IF NOT EXISTS run_plan_archive (LIKE run_plan, PRIMARY KEY (run_id)) PARTITION BY RANGE (run_id);
CREATE TABLE IF NOT EXISTS attempt_archive (LIKE attempt, PRIMARY KEY (run_id, task_id, attempt))
    PARTITION BY RANGE (run_id);

-- The parts there are, each of all of these: the runs whose ids are from one to before another. `last_ended_at`: none of
-- them has ended after that.
CREATE TABLE IF NOT EXISTS archive_part (
    first_id uuid PRIMARY KEY,
    end_id uuid NOT NULL,
    last_ended_at timestamptz NOT NULL
);

SET lock_timeout = '60s';
CREATE INDEX CONCURRENTLY IF NOT EXISTS run_ended ON run (ended_at) WHERE ended_at IS NOT NULL;
