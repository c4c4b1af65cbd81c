-- What attempts leave to the next ones, and queues whose workers ask for their tasks.
-- `carried`: {checkpoint, external_ref}.
ALTER TABLE task ADD COLUMN carried jsonb;
ALTER TABLE task_past ADD COLUMN carried jsonb;

-- `kafka`: its tasks go out on a topic; `grpc`: its workers lease them.
ALTER TABLE queue ADD COLUMN transport text NOT NULL DEFAULT 'kafka' CHECK (transport IN ('kafka', 'grpc'));

-- The open attempts of tasks for queues without topics, and those whose worker has said how they ended. A row is written
-- under the lock of its run only.
CREATE TABLE task_lease (
    task_id uuid NOT NULL,
    attempt int NOT NULL,
    token uuid NOT NULL,
    run_id uuid NOT NULL,
    queue text NOT NULL,
    kind text NOT NULL,
    -- Its place in the queue.
    place bigserial,
    dispatched jsonb NOT NULL,
    traceparent text NOT NULL,
    -- Who does it, and by which of its calls it was leased; nobody yet where they are null.
    worker text,
    life text,
    request_id text,
    -- Why it is to stop.
    cancelled text,
    ended_at timestamptz,
    PRIMARY KEY (task_id, attempt)
) WITH (fillfactor = 80);
CREATE INDEX task_lease_waiting ON task_lease (queue, place) WHERE worker IS NULL AND ended_at IS NULL;
CREATE INDEX task_lease_held ON task_lease (queue, worker) WHERE worker IS NOT NULL AND ended_at IS NULL;
CREATE INDEX task_lease_ended ON task_lease (ended_at) WHERE ended_at IS NOT NULL;
