-- A search over an estimator's parameters; its id is the hash of what was asked.
CREATE TABLE study (
    namespace text NOT NULL,
    study_id text NOT NULL,
    model text NOT NULL,
    asked jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, study_id)
);

CREATE TABLE trial (
    namespace text NOT NULL,
    study_id text NOT NULL,
    number int NOT NULL,
    params jsonb NOT NULL,
    state text NOT NULL CHECK (state IN ('complete', 'failed')),
    finished_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, study_id, number)
);

CREATE TABLE metric (
    namespace text NOT NULL,
    study_id text NOT NULL,
    number int NOT NULL,
    name text NOT NULL,
    value float8 NOT NULL,
    PRIMARY KEY (namespace, study_id, number, name)
);

-- Its row is what registering, evaluating and promoting lock.
CREATE TABLE model (
    namespace text NOT NULL,
    model text NOT NULL,
    versions int NOT NULL DEFAULT 0,
    PRIMARY KEY (namespace, model)
);

CREATE TABLE model_version (
    namespace text NOT NULL,
    model text NOT NULL,
    version int NOT NULL,
    version_id text NOT NULL,
    files jsonb NOT NULL,
    training_set_id text NOT NULL,
    study_id text NOT NULL,
    estimator text NOT NULL,
    params jsonb NOT NULL,
    metrics jsonb NOT NULL,
    parity_max_abs float8 NOT NULL,
    registered_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, model, version),
    UNIQUE (namespace, model, version_id)
);

CREATE TABLE evaluation (
    namespace text NOT NULL,
    evaluation_id text NOT NULL,
    model text NOT NULL,
    version int NOT NULL,
    version_id text NOT NULL,
    training_set_id text NOT NULL,
    champion_version int NOT NULL,
    champion_version_id text NOT NULL,
    passed boolean NOT NULL,
    measures jsonb NOT NULL,
    reasons jsonb NOT NULL,
    evaluated_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, evaluation_id)
);
CREATE INDEX evaluation_of_version ON evaluation (namespace, model, version, evaluated_at DESC);

CREATE TABLE alias (
    namespace text NOT NULL,
    model text NOT NULL,
    alias text NOT NULL,
    version int NOT NULL,
    moved_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, model, alias)
);

-- Every move an alias ever made, and who moved it.
CREATE TABLE alias_move (
    namespace text NOT NULL,
    model text NOT NULL,
    alias text NOT NULL,
    move_id uuid NOT NULL,
    previous_version int NOT NULL,
    version int NOT NULL,
    evaluation_id text NOT NULL,
    principal text NOT NULL,
    moved_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, model, alias, move_id)
);
