-- Housekeeping asks which artifacts are parts and training sets.
CREATE INDEX part_artifact ON part (sha256);
CREATE INDEX training_set_artifact ON training_set (sha256);
