-- outside a transaction
-- Triggers that wait: for other events, for a turn, for somebody who lets them go on. Each statement bears to be done again.
SET lock_timeout = '1s';

-- `version`: which document it is. `shape_version`: since which one events wait for one another by the same rule.
-- `admitted`: up to which place no run waits any more; `admit_at`: when the throttle lets the next one begin.
-- `last_run`: of a strict sequence, the one that the next waits for.
ALTER TABLE trigger
    ADD COLUMN IF NOT EXISTS version int NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS shape_version int NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS paused_at timestamptz,
    ADD COLUMN IF NOT EXISTS paused_by text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS draining boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS admitted bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS admit_at timestamptz,
    ADD COLUMN IF NOT EXISTS full_at timestamptz,
    ADD COLUMN IF NOT EXISTS last_run uuid;
UPDATE trigger SET paused_at = now(), paused_by = principal WHERE document->>'paused' = 'true' AND paused_at IS NULL;

-- What a trigger said when an event came: why it did not take it.
CREATE TABLE IF NOT EXISTS trigger_version (
    namespace text NOT NULL,
    name text NOT NULL,
    version int NOT NULL,
    document jsonb NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, name, version)
);
INSERT INTO trigger_version (namespace, name, version, document, applied_at)
SELECT namespace, name, version, document, applied_at FROM trigger ON CONFLICT DO NOTHING;

-- `waiting` for other events under a key, or `queued` while the trigger is paused; both get a run later, or a reason.
ALTER TABLE trigger_match
    ALTER COLUMN run_id DROP NOT NULL,
    ADD COLUMN IF NOT EXISTS version int NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS join_key text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS slot text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS reason text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS taken_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS number int NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS happened_at timestamptz,
    ADD COLUMN IF NOT EXISTS size_bytes int NOT NULL DEFAULT 0,
    DROP CONSTRAINT IF EXISTS trigger_match_disposition_check,
    ADD CONSTRAINT trigger_match_disposition_check CHECK (disposition IN ('started', 'duplicate', 'waiting', 'queued',
        'superseded', 'expired', 'late', 'skipped', 'dropped')) NOT VALID;

-- Events of a trigger that wait for one another; the trigger's row is locked by whoever changes one.
CREATE TABLE IF NOT EXISTS gathering (
    namespace text NOT NULL,
    trigger text NOT NULL,
    version int NOT NULL,
    key text NOT NULL,
    opened_at timestamptz,
    last_at timestamptz,
    fired text[] NOT NULL DEFAULT '{}',
    until_at timestamptz,
    run_id uuid,
    -- What waits always has something that wakes it.
    due_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, trigger, version, key)
);
CREATE INDEX IF NOT EXISTS gathering_due ON gathering (due_at);

SET lock_timeout = '60s';
-- A key is taken by what has started a run, or waits to; what was turned away leaves it free.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS trigger_match_taken ON trigger_match (namespace, trigger, dedupe_key)
    WHERE disposition <> 'duplicate' AND disposition <> 'skipped' AND disposition <> 'dropped';
DROP INDEX CONCURRENTLY IF EXISTS trigger_match_once;
CREATE INDEX CONCURRENTLY IF NOT EXISTS trigger_match_waits ON trigger_match
    (namespace, trigger, disposition, version, join_key, taken_at, number) WHERE disposition IN ('waiting', 'queued');
CREATE INDEX CONCURRENTLY IF NOT EXISTS trigger_waits ON trigger (namespace, name) WHERE admitted < queued OR draining;
CREATE INDEX CONCURRENTLY IF NOT EXISTS run_waits ON run (namespace, trigger_name, place)
    WHERE place IS NOT NULL AND started_at IS NULL AND ended_at IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS trigger_last_run ON trigger (last_run) WHERE last_run IS NOT NULL;
