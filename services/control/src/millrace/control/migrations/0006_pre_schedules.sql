-- Schedules: what starts runs by time, what they have started, and what of the past is made up for.
CREATE TABLE schedule (
    namespace text NOT NULL,
    name text NOT NULL,
    workflow text NOT NULL,
    document jsonb NOT NULL,
    principal text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    -- Up to which moment all is decided; when there is something to be decided again, never while it is paused.
    decided_until timestamptz NOT NULL,
    next_at timestamptz,
    paused_at timestamptz,
    paused_by text NOT NULL DEFAULT '',
    -- Runs queued so far, whether one of them may wait, and of a strict sequence the one that the next waits for.
    queued bigint NOT NULL DEFAULT 0,
    waits boolean NOT NULL DEFAULT false,
    last_run uuid,
    PRIMARY KEY (namespace, name),
    FOREIGN KEY (namespace, workflow) REFERENCES workflow,
    CHECK (paused_at IS NULL OR next_at IS NULL)
);
CREATE INDEX schedule_due ON schedule (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX schedule_waits ON schedule (namespace, name) WHERE waits;
CREATE INDEX schedule_last_run ON schedule (last_run) WHERE last_run IS NOT NULL;

-- For which moments runs were started: once each, and once more in each backfill that has an id of its own (`again`).
CREATE TABLE schedule_fire (
    namespace text NOT NULL,
    schedule text NOT NULL,
    logical_at timestamptz NOT NULL,
    again text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('scheduled', 'catch_up', 'backfill')),
    backfill_id text NOT NULL,
    run_id uuid NOT NULL,
    fired_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, schedule, logical_at, again)
);
CREATE INDEX schedule_fire_latest ON schedule_fire (namespace, schedule, fired_at);
CREATE INDEX schedule_fire_age ON schedule_fire (fired_at);
CREATE INDEX schedule_fire_backfill ON schedule_fire (namespace, schedule, backfill_id) WHERE backfill_id <> '';

-- For which none was started, and why.
CREATE TABLE schedule_passed (
    namespace text NOT NULL,
    schedule text NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    reason text NOT NULL CHECK (reason IN ('missed', 'paused', 'skipped', 'superseded')),
    run_id uuid,
    decided_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX schedule_passed_latest ON schedule_passed (namespace, schedule, decided_at);
CREATE INDEX schedule_passed_age ON schedule_passed (decided_at);

-- The document is that which it began with. `decided`: the last moment that was looked at; `more`: others follow.
CREATE TABLE backfill (
    namespace text NOT NULL,
    schedule text NOT NULL,
    backfill_id text NOT NULL,
    document jsonb NOT NULL,
    principal text NOT NULL,
    from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL,
    newest_first boolean NOT NULL,
    at_once int NOT NULL,
    again text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'done', 'cancelled')),
    decided timestamptz,
    more boolean NOT NULL DEFAULT true,
    total int NOT NULL,
    started int NOT NULL DEFAULT 0,
    skipped int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    PRIMARY KEY (namespace, schedule, backfill_id),
    CHECK ((ended_at IS NULL) = (state = 'running'))
);
CREATE INDEX backfill_running ON backfill (namespace, schedule) WHERE state = 'running';
CREATE INDEX backfill_age ON backfill (ended_at) WHERE ended_at IS NOT NULL;
