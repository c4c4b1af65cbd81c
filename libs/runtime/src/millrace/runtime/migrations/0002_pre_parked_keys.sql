-- Keys whose events wait in `held`, in order, until an operator lets them go on.
CREATE TABLE parked_key (
    consumer text NOT NULL,
    topic text NOT NULL,
    key bytea NOT NULL,
    namespace text NOT NULL DEFAULT '',
    reason text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, key)
);

ALTER TABLE held ADD COLUMN timestamp_ms bigint NOT NULL DEFAULT 0;
-- Whether its id was put into the inbox when it was held; if not, a twin of it may have been handled since.
ALTER TABLE held ADD COLUMN claimed boolean NOT NULL DEFAULT true;

-- Newest first, of all namespaces and of one; a key's events in order; one event.
CREATE INDEX held_newest ON held (consumer, held_at DESC, topic DESC, partition DESC, "offset" DESC);
CREATE INDEX held_newest_of ON held (consumer, namespace, held_at DESC, topic DESC, partition DESC, "offset" DESC);
CREATE INDEX held_place_of ON held (consumer, namespace, topic, partition, "offset");
CREATE INDEX held_key ON held (consumer, topic, key, partition, "offset");
CREATE INDEX held_event ON held (consumer, event_id);
