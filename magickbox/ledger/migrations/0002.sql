-- What is known of a destination's queue beside its deliveries; no row means: runs, and nothing is wrong with it.
CREATE TABLE queues (
    name       TEXT PRIMARY KEY,                 -- PACS@10.0.0.5:104
    mode       TEXT NOT NULL DEFAULT 'RUNNING',  -- RUNNING PAUSED DRAINING
    since      TEXT,                             -- in this mode since
    who        TEXT NOT NULL DEFAULT '',
    failures   INTEGER NOT NULL DEFAULT 0,       -- connections in a row that nobody answered
    open_since TEXT,                             -- unreachable since
    probes     INTEGER NOT NULL DEFAULT 0,
    next_probe TEXT,
    reason     TEXT NOT NULL DEFAULT '',         -- of the last failure
    troubled   TEXT,                             -- nothing got through since
    trouble    TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_by_destination ON deliveries (called_ae || '@' || host || ':' || port, state);
