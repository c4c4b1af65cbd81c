-- outside a transaction
-- Tasks that wait for an event that a trigger takes. Each statement bears to be done again.
SET lock_timeout = '1s';

-- Written with the task that begins to wait; `fresh` until the trigger has been looked at for it, under whose lock events
-- are handed out. One whose task waits no more is passed over.
CREATE TABLE IF NOT EXISTS awaited (
    awaited_id bigserial PRIMARY KEY,
    namespace text NOT NULL,
    trigger text NOT NULL,
    key text NOT NULL,
    run_id uuid NOT NULL,
    name text NOT NULL,
    task_id uuid NOT NULL,
    fresh boolean NOT NULL DEFAULT true
);
CREATE INDEX IF NOT EXISTS awaited_under ON awaited (namespace, trigger, key, awaited_id);
CREATE INDEX IF NOT EXISTS awaited_fresh ON awaited (namespace, trigger) WHERE fresh;

-- A trigger that hands its events to tasks starts no runs.
ALTER TABLE trigger ALTER COLUMN workflow DROP NOT NULL;
-- `delivered`: tasks got it that waited for it.
ALTER TABLE trigger_match
    DROP CONSTRAINT IF EXISTS trigger_match_disposition_check,
    ADD CONSTRAINT trigger_match_disposition_check CHECK (disposition IN ('started', 'duplicate', 'waiting', 'queued',
        'superseded', 'expired', 'late', 'skipped', 'dropped', 'delivered')) NOT VALID;
