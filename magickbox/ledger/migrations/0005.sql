-- A receipt of a job's deliveries: asked for in the transaction that ends them, then written as delivery.json.
CREATE TABLE receipts (
    job      TEXT PRIMARY KEY REFERENCES jobs (id),
    asked    TEXT NOT NULL,
    written  TEXT,                       -- NULL: is to be written
    checksum TEXT NOT NULL DEFAULT ''    -- SHA-256 of delivery.json
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_to_write ON receipts (job) WHERE written IS NULL;
