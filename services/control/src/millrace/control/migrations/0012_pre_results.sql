-- outside a transaction
-- Results that are kept and taken again, and deadlines. Each statement bears to be done again.
SET lock_timeout = '1s';

-- What there is under a key: a result, and the task that computes one now, {run_id, task, task_id}.
CREATE TABLE IF NOT EXISTS result (
    namespace text NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    output jsonb,
    run_id uuid,
    task text,
    at timestamptz,
    expires_at timestamptz,
    parts jsonb,
    computing jsonb,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX IF NOT EXISTS result_latest ON result (namespace, kind, at) WHERE at IS NOT NULL;
CREATE INDEX IF NOT EXISTS result_expires ON result (expires_at) WHERE expires_at IS NOT NULL;

-- What runs ask and tell of a key: read under that key's lock, in order, so that no run's lock is held meanwhile.
-- One that `waits` is for when who computes has come to something.
CREATE TABLE IF NOT EXISTS result_mail (
    mail_id bigserial PRIMARY KEY,
    namespace text NOT NULL,
    key text NOT NULL,
    run_id uuid NOT NULL,
    task_id uuid NOT NULL,
    told jsonb NOT NULL,
    waits boolean NOT NULL DEFAULT false
);
CREATE INDEX IF NOT EXISTS result_mail_of_key ON result_mail (namespace, key, mail_id);
CREATE INDEX IF NOT EXISTS result_mail_unread ON result_mail (mail_id) WHERE NOT waits;

-- `refresh`: its tasks compute anew what could be taken. `deadline_at`: when a run or a task is to be done, until it is
-- or that is `missed_at`. Of tasks, first where records go: a replica of the former version moves rows whole.
ALTER TABLE run ADD COLUMN IF NOT EXISTS refresh boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS deadline_at timestamptz, ADD COLUMN IF NOT EXISTS missed_at timestamptz;
ALTER TABLE task_past ADD COLUMN IF NOT EXISTS deadline_at timestamptz, ADD COLUMN IF NOT EXISTS missed_at timestamptz;
ALTER TABLE task ADD COLUMN IF NOT EXISTS deadline_at timestamptz, ADD COLUMN IF NOT EXISTS missed_at timestamptz;

SET lock_timeout = '60s';
CREATE INDEX CONCURRENTLY IF NOT EXISTS run_deadline ON run (deadline_at) WHERE deadline_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS task_deadline ON task (deadline_at) WHERE deadline_at IS NOT NULL;
