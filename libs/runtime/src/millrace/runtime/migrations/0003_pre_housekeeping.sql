-- outside a transaction
-- What housekeeping finds by age; the other tables of the runtime have their age in their keys.
CREATE INDEX CONCURRENTLY IF NOT EXISTS held_given_up ON held (held_at) WHERE state = 'dead';
CREATE INDEX CONCURRENTLY IF NOT EXISTS request_age ON request (time);
