-- outside a transaction
-- Housekeeping asks which artifacts are parts and training sets.
CREATE INDEX CONCURRENTLY IF NOT EXISTS part_artifact ON part (sha256);
CREATE INDEX CONCURRENTLY IF NOT EXISTS training_set_artifact ON training_set (sha256);
