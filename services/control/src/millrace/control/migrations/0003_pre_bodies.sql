-- Tasks with bodies: a record may be of a scope, may wait without a worker, and says how far it is.
ALTER TABLE task ADD COLUMN began_at timestamptz, ADD COLUMN outcome text, ADD COLUMN inner_state jsonb;
ALTER TABLE task DROP CONSTRAINT task_state_check, DROP CONSTRAINT task_check;
ALTER TABLE task ADD CONSTRAINT task_state_check CHECK (state IN ('dispatched', 'running', 'cancelling', 'retry_wait',
    'waiting', 'open', 'closing', 'succeeded', 'skipped', 'failed', 'cancelled')) NOT VALID;
-- What waits for a worker always has something that wakes it, and what is settled has nothing.
ALTER TABLE task ADD CONSTRAINT task_wakes CHECK (CASE
    WHEN state IN ('dispatched', 'running', 'cancelling', 'retry_wait') THEN due_at IS NOT NULL
    WHEN state IN ('waiting', 'open', 'closing') THEN true
    ELSE due_at IS NULL END) NOT VALID;

-- Records of scopes that are over: no decision needs them, so that one about a run with very many tasks reads few.
CREATE TABLE task_past (LIKE task, PRIMARY KEY (run_id, name));

-- `signals`: what came and no task has waited for yet, [[name, data], …].
ALTER TABLE run ADD COLUMN output jsonb, ADD COLUMN signals jsonb NOT NULL DEFAULT '[]';

-- Which task of which run started it, and how many such steps it is from a run that nobody did.
ALTER TABLE run ADD COLUMN parent_run_id uuid, ADD COLUMN parent_task text, ADD COLUMN parent_task_id uuid,
    ADD COLUMN depth int NOT NULL DEFAULT 0;

-- The workflow of a run with what its tasks have planned; every other run has its version's.
ALTER TABLE run ADD COLUMN planned_sha256 text;
CREATE TABLE run_plan (
    run_id uuid PRIMARY KEY,
    sha256 text NOT NULL,
    document text NOT NULL
);

-- What one run has to tell another: read under that one's lock, in order, so that nobody holds two.
CREATE TABLE mail (
    mail_id bigserial PRIMARY KEY,
    run_id uuid NOT NULL,
    told jsonb NOT NULL
);
CREATE INDEX mail_of_run ON mail (run_id);
