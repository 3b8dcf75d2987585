-- What destinations were asked about deliveries that were sent, and what they answered: their reports may come after
-- a restart.
CREATE TABLE proofs (
    uid      TEXT PRIMARY KEY,            -- Transaction UID
    delivery INTEGER NOT NULL REFERENCES deliveries (id),
    how      TEXT NOT NULL,
    peer     TEXT NOT NULL,               -- the AE title whose report counts
    own      TEXT NOT NULL,               -- the AE title under which the box asked
    asked    TEXT NOT NULL,
    answered TEXT,
    state    TEXT NOT NULL,
    reason   TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX proofs_of_delivery ON proofs (delivery, asked);
CREATE INDEX proofs_awaited ON proofs (own) WHERE answered IS NULL;
