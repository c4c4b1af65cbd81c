-- outside a transaction
-- Slots of pools: who holds some, who waits for them, and whose turn it is. Each statement bears to be done again.
SET lock_timeout = '1s';

-- A task may wait for slots.
ALTER TABLE task DROP CONSTRAINT IF EXISTS task_state_check, DROP CONSTRAINT IF EXISTS task_wakes,
    DROP CONSTRAINT IF EXISTS task_states;
ALTER TABLE task ADD CONSTRAINT task_states CHECK (state IN ('queued', 'dispatched', 'running', 'cancelling',
    'retry_wait', 'waiting', 'open', 'closing', 'succeeded', 'skipped', 'failed', 'cancelled')) NOT VALID;
-- What waits for a worker always has something that wakes it, and what is settled has nothing.
ALTER TABLE task ADD CONSTRAINT task_wakes CHECK (CASE
    WHEN state IN ('dispatched', 'running', 'cancelling', 'retry_wait') THEN due_at IS NOT NULL
    WHEN state IN ('queued', 'waiting', 'open', 'closing') THEN true
    ELSE due_at IS NULL END) NOT VALID;

-- A row for each namespace that has pools: its quota, and what is locked by whoever takes or gives back slots in it.
-- `due_at`: when a rate lets the next one in, or more can be let in at once.
CREATE TABLE IF NOT EXISTS admission (
    namespace text PRIMARY KEY,
    max_leases int CHECK (max_leases >= 0),
    principal text NOT NULL DEFAULT '',
    applied_at timestamptz,
    due_at timestamptz
);
CREATE INDEX IF NOT EXISTS admission_due ON admission (due_at) WHERE due_at IS NOT NULL;

-- `full_at`: when the bucket of its rate is full.
CREATE TABLE IF NOT EXISTS pool (
    namespace text NOT NULL REFERENCES admission,
    name text NOT NULL,
    slots int NOT NULL CHECK (slots >= 0),
    rate jsonb,
    shares jsonb NOT NULL,
    principal text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    full_at timestamptz,
    PRIMARY KEY (namespace, name)
);

-- Slots that are taken, by an attempt that has not ended; there is no other count of them.
CREATE TABLE IF NOT EXISTS lease (
    ticket uuid PRIMARY KEY,
    namespace text NOT NULL,
    pool text NOT NULL,
    weight int NOT NULL CHECK (weight > 0),
    priority int NOT NULL,
    fairness_key text NOT NULL,
    run_id uuid NOT NULL,
    name text NOT NULL,
    since timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS lease_of_pool ON lease (namespace, pool) INCLUDE (weight);

CREATE SEQUENCE IF NOT EXISTS waiter_number;
CREATE TABLE IF NOT EXISTS waiter (
    ticket uuid PRIMARY KEY,
    namespace text NOT NULL,
    pool text NOT NULL,
    weight int NOT NULL CHECK (weight > 0),
    priority int NOT NULL,
    fairness_key text NOT NULL,
    number bigint NOT NULL DEFAULT nextval('waiter_number'),
    run_id uuid NOT NULL,
    name text NOT NULL,
    since timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS waiter_in_flow ON waiter (namespace, pool, priority, fairness_key, number);

-- The waiters of one priority and fairness key: how much they have had, and since which of them they wait. One of which
-- nobody waits is kept for as long as it has had more than those that do.
CREATE TABLE IF NOT EXISTS flow (
    namespace text NOT NULL,
    pool text NOT NULL,
    priority int NOT NULL,
    fairness_key text NOT NULL,
    passed double precision NOT NULL,
    waits boolean NOT NULL,
    since bigint NOT NULL,
    PRIMARY KEY (namespace, pool, priority, fairness_key)
);
CREATE INDEX IF NOT EXISTS flow_in_turn ON flow (namespace, pool, priority DESC, passed, since) WHERE waits;
CREATE INDEX IF NOT EXISTS flow_over ON flow (namespace, pool, priority, passed) WHERE NOT waits;
