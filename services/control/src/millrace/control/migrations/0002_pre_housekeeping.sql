-- What housekeeping finds by age, and the attempts of a run.
CREATE INDEX event_age ON event (received_at);
CREATE INDEX attempt_of_run ON attempt (run_id);
