-- outside a transaction
-- Runs that did not succeed are found in the archive without reading all the others. Only housekeeping writes there,
-- which waits meanwhile. It bears to be done again.
SET lock_timeout = '60s';
CREATE INDEX IF NOT EXISTS run_archive_unlucky ON run_archive (namespace, state, run_id)
    WHERE state IN ('refused', 'failed', 'cancelled');
