-- outside a transaction
-- What triggers said once goes when nothing asks for it any more. Each statement bears to be done again.
SET lock_timeout = '60s';
CREATE INDEX CONCURRENTLY IF NOT EXISTS trigger_version_age ON trigger_version (applied_at);
