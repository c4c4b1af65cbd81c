-- Counts a run's changes: who knows a run as of one version decides on it without reading it, and is told by this when it is another.
ALTER TABLE run ADD COLUMN version int NOT NULL DEFAULT 0;
-- Each change of a run or of its tasks counts, so that there is to be room for it beside the row.
ALTER TABLE run SET (fillfactor = 70);
