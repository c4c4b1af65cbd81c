-- outside a transaction
-- Housekeeping asks which artifacts a version refers to.
CREATE INDEX CONCURRENTLY IF NOT EXISTS version_good ON version (good_sha256);
CREATE INDEX CONCURRENTLY IF NOT EXISTS version_quarantined ON version (quarantined_sha256);
