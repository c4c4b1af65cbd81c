-- What decides on the partition of what is sent; none where its key does, as for all that older replicas emit.
ALTER TABLE outbox ADD COLUMN IF NOT EXISTS partition_key text;
