-- One attempt of a task. Order, start and end are told on different topics: each fills in its own columns.
CREATE TABLE attempt (
    namespace text NOT NULL,
    task_id uuid NOT NULL,
    attempt int NOT NULL,
    run_id uuid NOT NULL,
    workflow text NOT NULL,
    task text NOT NULL,
    kind text NOT NULL,
    dispatched_at timestamptz,
    ended_at timestamptz,
    outcome text,
    error text NOT NULL DEFAULT '',
    duration_s float8 NOT NULL DEFAULT 0,
    cpu_s float8 NOT NULL DEFAULT 0,
    PRIMARY KEY (namespace, task_id, attempt)
);
CREATE INDEX attempt_run ON attempt (namespace, run_id);
CREATE INDEX attempt_end ON attempt (namespace, ended_at);

CREATE TABLE run (
    namespace text NOT NULL,
    run_id uuid NOT NULL,
    workflow text NOT NULL,
    trigger text NOT NULL DEFAULT '',
    principal text NOT NULL DEFAULT '',
    started_at timestamptz,
    ended_at timestamptz,
    state text,
    cause text NOT NULL DEFAULT '',
    duration_s float8,
    PRIMARY KEY (namespace, run_id)
);
CREATE INDEX run_end ON run (namespace, ended_at);

-- How long after they were told events were handled here, by topic and minute. The inbox lets each event count once.
CREATE TABLE lag (
    namespace text NOT NULL,
    topic text NOT NULL,
    minute timestamptz NOT NULL,
    events bigint NOT NULL,
    sum_s float8 NOT NULL,
    max_s float8 NOT NULL,
    PRIMARY KEY (namespace, topic, minute)
);
CREATE INDEX lag_minute ON lag (namespace, minute);

-- What an hour of a processor costs since when. What was done is priced as of its end: a new price changes no past cost.
CREATE TABLE price (
    since timestamptz PRIMARY KEY,
    per_cpu_hour numeric NOT NULL CHECK (per_cpu_hour >= 0),
    currency text NOT NULL
);
