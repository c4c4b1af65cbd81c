-- What housekeeping finds by age; the other tables of the runtime have their age in their keys.
CREATE INDEX held_given_up ON held (held_at) WHERE state = 'dead';
CREATE INDEX request_age ON request (time);
