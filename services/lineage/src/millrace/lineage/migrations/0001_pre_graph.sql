-- Everything below only grows or moves towards a least or greatest value: the order of arrival leaves no trace.

-- A thing, a run or a job; its kind is what stands before the first colon of its id.
CREATE TABLE node (
    namespace text NOT NULL,
    id text NOT NULL,
    known_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, id)
);

-- What an event said of a node, canonical JSON; of one name the newest stands.
CREATE TABLE fact (
    namespace text NOT NULL,
    node text NOT NULL,
    name text NOT NULL,
    at timestamptz NOT NULL,
    event_id text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (namespace, node, name, at, event_id)
);

-- How far a run has come; rank puts the states in order.
CREATE TABLE run (
    namespace text NOT NULL,
    node text NOT NULL,
    rank smallint NOT NULL,
    state_at timestamptz NOT NULL,
    state text COLLATE "C" NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (namespace, node)
);

-- `to_node` rests on `from_node`: a thing on a run, a run on what it read, on its job and on the run that began it.
CREATE TABLE edge (
    namespace text NOT NULL,
    from_node text NOT NULL,
    to_node text NOT NULL,
    known_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, from_node, to_node)
);
CREATE INDEX edge_upstream ON edge (namespace, to_node);

-- Single predictions are looked up, not walked, and kept for a bounded time.
CREATE TABLE prediction_lookup (
    namespace text NOT NULL,
    prediction_id text NOT NULL,
    predicted_at timestamptz NOT NULL,
    deployment text NOT NULL,
    detail text COLLATE "C" NOT NULL,
    PRIMARY KEY (namespace, prediction_id)
);
CREATE INDEX prediction_lookup_age ON prediction_lookup (predicted_at);
