-- outside a transaction
-- The day on which a key last had an event: streams that have ended are found by it. A day, so that an event changes
-- the index once a day and not each time.
ALTER TABLE stream ADD COLUMN IF NOT EXISTS told_on date NOT NULL DEFAULT current_date;
CREATE INDEX CONCURRENTLY IF NOT EXISTS stream_age ON stream (told_on);
