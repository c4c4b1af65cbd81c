CREATE TABLE contract (
    namespace text NOT NULL,
    name text NOT NULL,
    contract_hash text NOT NULL,
    odcs_yaml text NOT NULL,
    applied_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, name, contract_hash)
);

CREATE TABLE contract_in_force (
    namespace text NOT NULL,
    name text NOT NULL,
    contract_hash text NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (namespace, name)
);

CREATE TABLE version (
    namespace text NOT NULL,
    version_id text NOT NULL,
    number bigserial NOT NULL,
    dataset text NOT NULL,
    partition text NOT NULL,
    contract text NOT NULL,
    contract_hash text NOT NULL,
    source_uri text NOT NULL,
    source_sha256 text NOT NULL,
    good_rows bigint NOT NULL,
    quarantined_rows bigint NOT NULL,
    good_sha256 text NOT NULL,
    quarantined_sha256 text NOT NULL,
    landed_at timestamptz NOT NULL,
    published_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, version_id),
    UNIQUE (namespace, dataset, partition, contract_hash, source_sha256)
);
CREATE INDEX version_of_partition ON version (namespace, dataset, partition, number DESC);
CREATE INDEX version_newest ON version (namespace, number DESC);

-- How many rows of a version broke each rule, in the contract's order.
CREATE TABLE check_result (
    namespace text NOT NULL,
    version_id text NOT NULL,
    place int NOT NULL,
    reason text NOT NULL,
    description text NOT NULL,
    failed_rows bigint NOT NULL,
    PRIMARY KEY (namespace, version_id, place)
);
