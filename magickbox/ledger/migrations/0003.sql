-- Destinations of several kinds: each whole as JSON, and the queue that a delivery stands in as a column of its own
-- A row from before has no JSON: host, port and the two AE titles say it.

ALTER TABLE deliveries ADD COLUMN destination TEXT NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN lane TEXT NOT NULL DEFAULT '';
UPDATE deliveries SET lane = called_ae || '@' || host || ':' || port;
DROP INDEX deliveries_by_destination;
CREATE INDEX deliveries_by_lane ON deliveries (lane, state);
