-- What the runtime keeps in every service's database.
CREATE TABLE inbox (
    event_id uuid PRIMARY KEY,
    handled_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE outbox (
    id bigserial PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    headers jsonb NOT NULL,
    value bytea NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);

-- The number of the newest event of each key: gapless, in commit order.
CREATE TABLE stream (
    topic text NOT NULL,
    key text NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (topic, key)
);

CREATE TABLE held (
    consumer text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    namespace text NOT NULL DEFAULT '',
    key bytea,
    event_id text NOT NULL DEFAULT '',
    type text NOT NULL DEFAULT '',
    headers jsonb NOT NULL,
    value bytea,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    reason text NOT NULL,
    attempts int NOT NULL DEFAULT 1,
    state text NOT NULL DEFAULT 'dead' CHECK (state IN ('dead', 'parked')),
    held_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, partition, "offset")
);

CREATE TABLE job (
    task_id uuid NOT NULL,
    attempt int NOT NULL,
    token uuid NOT NULL,
    namespace text NOT NULL,
    kind text NOT NULL,
    dispatched jsonb NOT NULL,
    trace jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL CHECK (state IN ('leased', 'done', 'failed', 'cancelled')),
    owner text NOT NULL DEFAULT '',
    accepted_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, attempt)
);
CREATE INDEX job_leased ON job (heartbeat_at) WHERE state = 'leased';

-- The stored answer to a mutating call, and its audit row.
CREATE TABLE request (
    namespace text NOT NULL,
    principal text NOT NULL,
    method text NOT NULL,
    request_id text NOT NULL,
    body_sha256 text NOT NULL,
    response bytea NOT NULL,
    trace_id text NOT NULL DEFAULT '',
    time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, principal, method, request_id)
);
CREATE INDEX request_time ON request (namespace, time DESC);
