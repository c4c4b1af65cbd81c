-- Every declaration that was ever in force, by the hash of its canonical form.
CREATE TABLE declaration (
    namespace text NOT NULL,
    view_hash text NOT NULL,
    view text NOT NULL,
    declared jsonb NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, view_hash)
);

-- The declaration in force.
CREATE TABLE view (
    namespace text NOT NULL,
    view text NOT NULL,
    view_hash text NOT NULL,
    PRIMARY KEY (namespace, view),
    FOREIGN KEY (namespace, view_hash) REFERENCES declaration (namespace, view_hash)
);

-- One computation of a view's newest rows; it is complete once `entities` is known.
CREATE TABLE generation (
    namespace text NOT NULL,
    view text NOT NULL,
    generation text NOT NULL,
    view_hash text NOT NULL,
    version_ids text[] NOT NULL,
    entity text[] NOT NULL,
    features text[] NOT NULL,
    entities bigint,
    started_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, view, generation)
);

-- One wide row per entity: the values of all the view's features, NaN where nothing is known.
CREATE TABLE online_row (
    namespace text NOT NULL,
    view text NOT NULL,
    generation text NOT NULL,
    key text[] NOT NULL,
    features float8[] NOT NULL,
    PRIMARY KEY (namespace, view, generation, key)
);

-- Which generation is read: moving it is all that it takes to put a complete one online.
CREATE TABLE online_pointer (
    namespace text NOT NULL,
    view text NOT NULL,
    generation text NOT NULL,
    PRIMARY KEY (namespace, view),
    FOREIGN KEY (namespace, view, generation) REFERENCES generation (namespace, view, generation)
);

-- Parts of training sets that were computed before, by the hash of all that went into them.
CREATE TABLE part (
    namespace text NOT NULL,
    part_id text NOT NULL,
    sha256 text NOT NULL,
    PRIMARY KEY (namespace, part_id)
);

CREATE TABLE training_set (
    namespace text NOT NULL,
    training_set_id text NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    spine_rows bigint NOT NULL,
    view_hashes text[] NOT NULL,
    version_ids text[] NOT NULL,
    built_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, training_set_id)
);
