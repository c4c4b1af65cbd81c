-- outside a transaction
-- Runs that are paused, and runs that do earlier ones again. Each statement bears to be done again.
SET lock_timeout = '1s';

-- `pause`: {at, cause, left_s}, set exactly while a run is paused.
ALTER TABLE run ADD COLUMN IF NOT EXISTS pause jsonb, ADD COLUMN IF NOT EXISTS rerun_of uuid;
ALTER TABLE run DROP CONSTRAINT IF EXISTS run_state_check, DROP CONSTRAINT IF EXISTS run_check,
    DROP CONSTRAINT IF EXISTS run_states, DROP CONSTRAINT IF EXISTS run_wakes, DROP CONSTRAINT IF EXISTS run_pauses;
ALTER TABLE run ADD CONSTRAINT run_states CHECK (state IN ('pending', 'running', 'paused', 'ending', 'succeeded',
    'refused', 'failed', 'cancelled')) NOT VALID;
-- A run that goes on always has something that wakes it.
ALTER TABLE run ADD CONSTRAINT run_wakes CHECK
    ((due_at IS NOT NULL) = (state IN ('running', 'paused', 'ending'))) NOT VALID;
ALTER TABLE run ADD CONSTRAINT run_pauses CHECK ((pause IS NOT NULL) = (state = 'paused')) NOT VALID;

-- What does a run again.
CREATE INDEX CONCURRENTLY IF NOT EXISTS run_reruns ON run (rerun_of) WHERE rerun_of IS NOT NULL;
