-- outside a transaction
-- What housekeeping finds by age, and the attempts of a run.
CREATE INDEX CONCURRENTLY IF NOT EXISTS event_age ON event (received_at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS attempt_of_run ON attempt (run_id);
