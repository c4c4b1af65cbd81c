-- What control keeps: workflows, triggers, the events that came, and runs with their tasks.
CREATE TABLE workflow_version (
    namespace text NOT NULL,
    sha256 text NOT NULL,
    name text NOT NULL,
    -- JSON as text: jsonb would lose the order of its tasks, which is shown.
    document text NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, sha256)
);

-- Which version of a workflow new runs get.
CREATE TABLE workflow (
    namespace text NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    principal text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, name),
    FOREIGN KEY (namespace, sha256) REFERENCES workflow_version
);

CREATE TABLE source (
    namespace text NOT NULL,
    topic text NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (namespace, topic)
);

CREATE TABLE trigger (
    namespace text NOT NULL,
    name text NOT NULL,
    topic text NOT NULL,
    workflow text NOT NULL,
    document jsonb NOT NULL,
    principal text NOT NULL,
    -- Runs queued so far: the next one's place. Its row is locked by whoever queues or starts one.
    queued bigint NOT NULL DEFAULT 0,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, name),
    FOREIGN KEY (namespace, topic) REFERENCES source,
    FOREIGN KEY (namespace, workflow) REFERENCES workflow
);

-- Each event from outside, once by its source and id.
CREATE TABLE event (
    namespace text NOT NULL,
    source text NOT NULL,
    id text NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    time text NOT NULL,
    data jsonb,
    traceparent text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    deliveries int NOT NULL DEFAULT 1,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, source, id)
);

-- What a trigger made of an event that it takes.
CREATE TABLE trigger_match (
    namespace text NOT NULL,
    source text NOT NULL,
    event_id text NOT NULL,
    trigger text NOT NULL,
    dedupe_key text NOT NULL,
    disposition text NOT NULL CHECK (disposition IN ('started', 'duplicate')),
    run_id uuid NOT NULL,
    PRIMARY KEY (namespace, source, event_id, trigger)
);
CREATE UNIQUE INDEX trigger_match_once ON trigger_match (namespace, trigger, dedupe_key) WHERE disposition = 'started';

CREATE TABLE run (
    run_id uuid PRIMARY KEY,
    namespace text NOT NULL,
    workflow text NOT NULL,
    sha256 text NOT NULL,
    state text NOT NULL
        CHECK (state IN ('pending', 'running', 'ending', 'succeeded', 'refused', 'failed', 'cancelled')),
    outcome text,
    cause text NOT NULL,
    principal text NOT NULL,
    -- The trigger that started it, empty when a call did, and its place among that trigger's queued runs.
    trigger_name text NOT NULL,
    place bigint,
    trigger jsonb NOT NULL,
    traceparent text NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    due_at timestamptz,
    -- A run that goes on always has something that wakes it.
    CHECK ((due_at IS NOT NULL) = (state IN ('running', 'ending')))
);
CREATE INDEX run_listed ON run (namespace, run_id);
CREATE INDEX run_due ON run (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX run_queue ON run (namespace, trigger_name, place) WHERE place IS NOT NULL AND ended_at IS NULL;

-- A task gets its row when its needs are settled.
CREATE TABLE task (
    run_id uuid NOT NULL,
    name text NOT NULL,
    task_id uuid NOT NULL,
    state text NOT NULL CHECK (state IN
        ('dispatched', 'running', 'cancelling', 'retry_wait', 'succeeded', 'skipped', 'failed', 'cancelled')),
    attempt int NOT NULL,
    token uuid,
    failures int NOT NULL,
    losses int NOT NULL,
    dispatched_at timestamptz,
    started_at timestamptz,
    seen_at timestamptz,
    ended_at timestamptz,
    due_at timestamptz,
    output jsonb,
    failure jsonb,
    fraction double precision NOT NULL,
    message text NOT NULL,
    PRIMARY KEY (run_id, name),
    -- An attempt that is open always has something that wakes it, and one token.
    CHECK ((due_at IS NOT NULL) = (state IN ('dispatched', 'running', 'cancelling', 'retry_wait'))),
    CHECK ((token IS NOT NULL) = (state IN ('dispatched', 'running', 'cancelling')))
) WITH (fillfactor = 80);
CREATE INDEX task_due ON task (due_at) WHERE due_at IS NOT NULL;

-- Attempts that ended without a result; the latest one stands in its task's row.
CREATE TABLE attempt (
    task_id uuid NOT NULL,
    attempt int NOT NULL,
    run_id uuid NOT NULL,
    name text NOT NULL,
    error text NOT NULL,
    message text NOT NULL,
    lost boolean NOT NULL,
    dispatched_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz NOT NULL,
    PRIMARY KEY (task_id, attempt)
);
