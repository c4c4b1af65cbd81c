-- A model version that was made ready to serve here; one per task, however often the task is tried.
CREATE TABLE deployment (
    namespace text NOT NULL,
    deployment_id uuid NOT NULL,
    task_id uuid NOT NULL,
    model text NOT NULL,
    version int NOT NULL,
    version_id text NOT NULL,
    files jsonb NOT NULL,
    state text NOT NULL CHECK (state IN ('loading', 'ready', 'failed', 'retired')),
    traceparent text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, deployment_id),
    UNIQUE (namespace, task_id)
);
CREATE INDEX deployment_model ON deployment (namespace, model, created_at DESC);

-- Where a model's traffic goes; the canary's share is `weight`, the rest is that of the one in use.
CREATE TABLE route (
    namespace text NOT NULL,
    model text NOT NULL,
    generation bigint NOT NULL DEFAULT 0,
    in_use uuid,
    canary uuid,
    weight int NOT NULL DEFAULT 0 CHECK (weight BETWEEN 0 AND 100),
    tripped text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, model),
    CHECK (canary IS NOT NULL OR weight = 0)
);

CREATE TABLE shift (
    namespace text NOT NULL,
    model text NOT NULL,
    generation bigint NOT NULL,
    deployment_id uuid NOT NULL,
    weight int NOT NULL,
    reason text NOT NULL,
    shifted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, model, generation, deployment_id)
);

-- What the running judge of a canary waits for; 0 when none runs.
CREATE TABLE canary (
    namespace text NOT NULL,
    deployment_id uuid NOT NULL,
    wanted bigint NOT NULL,
    PRIMARY KEY (namespace, deployment_id)
);

-- A request scored by both arms; null where the canary gave no finite score.
CREATE TABLE canary_observation (
    namespace text NOT NULL,
    deployment_id uuid NOT NULL,
    request_key text NOT NULL,
    in_use_score float8 NOT NULL,
    canary_score float8,
    observed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, deployment_id, request_key)
);
CREATE INDEX canary_observation_age ON canary_observation (observed_at);

CREATE TABLE label (
    namespace text NOT NULL,
    model text NOT NULL,
    request_key text NOT NULL,
    label float8 NOT NULL,
    labelled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, model, request_key)
);
CREATE INDEX label_age ON label (labelled_at);

CREATE TABLE verdict (
    namespace text NOT NULL,
    deployment_id uuid NOT NULL,
    verdict_id uuid NOT NULL,
    weight int NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('pass', 'fail', 'unknown')),
    answers bigint NOT NULL,
    mean_difference float8 NOT NULL,
    standard_error float8 NOT NULL,
    judged_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, deployment_id, verdict_id)
);

CREATE TABLE arm_stats (
    namespace text NOT NULL,
    deployment_id uuid NOT NULL,
    answers bigint NOT NULL,
    bad bigint NOT NULL,
    PRIMARY KEY (namespace, deployment_id)
);
