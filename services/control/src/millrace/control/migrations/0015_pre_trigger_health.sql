-- outside a transaction
-- What triggers said once goes when nothing asks for it any more. Each statement bears to be done again.
SET lock_timeout = '60s';
CREATE INDEX CONCURRENTLY IF NOT EXISTS trigger_version_age ON trigger_version (applied_at);

-- When triggers last took an event, and what last went wrong with them; written now and then, by no round of events.
CREATE TABLE IF NOT EXISTS trigger_health (
    namespace text NOT NULL,
    name text NOT NULL,
    matched_at timestamptz,
    failed_at timestamptz,
    failure text NOT NULL DEFAULT '',
    PRIMARY KEY (namespace, name)
) WITH (fillfactor = 70);
