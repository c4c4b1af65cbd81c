-- Housekeeping asks which artifacts a version refers to.
CREATE INDEX version_good ON version (good_sha256);
CREATE INDEX version_quarantined ON version (quarantined_sha256);
