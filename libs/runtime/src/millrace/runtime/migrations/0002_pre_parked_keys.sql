-- Keys whose events wait in `held`, in order, until an operator lets them go on.
CREATE TABLE parked_key (
    consumer text NOT NULL,
    topic text NOT NULL,
    key bytea NOT NULL,
    namespace text NOT NULL DEFAULT '',
    reason text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    -- A key may be longer than an index takes.
    key_sha256 bytea NOT NULL GENERATED ALWAYS AS (sha256(key)) STORED,
    PRIMARY KEY (consumer, topic, key_sha256)
);

ALTER TABLE held ADD COLUMN timestamp_ms bigint NOT NULL DEFAULT 0;
-- Whether its id was put into the inbox when it was held; if not, a twin of it may have been handled since.
ALTER TABLE held ADD COLUMN claimed boolean NOT NULL DEFAULT true;
-- In the order in which they were held. The place is another's once a topic is made again; this is always the same one's.
ALTER TABLE held ADD COLUMN id bigserial UNIQUE;
-- What was held when texts were cut by characters may be longer than an index takes.
UPDATE held SET namespace = left(namespace, 250), event_id = left(event_id, 250)
WHERE octet_length(namespace) > 1000 OR octet_length(event_id) > 1000;

-- Newest first, of all namespaces and of one; a key's events in order; one event.
CREATE INDEX held_newest ON held (consumer, held_at DESC, topic DESC, partition DESC, "offset" DESC);
CREATE INDEX held_newest_of ON held (consumer, namespace, held_at DESC, topic DESC, partition DESC, "offset" DESC);
CREATE INDEX held_place_of ON held (consumer, namespace, topic, partition, "offset");
CREATE INDEX held_key ON held (consumer, topic, sha256(key), id);
CREATE INDEX held_event ON held (consumer, event_id);
