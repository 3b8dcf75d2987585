-- What goes first within a destination's queue: 0 urgent, 1 normal, 2 low.
ALTER TABLE deliveries ADD COLUMN priority INTEGER NOT NULL DEFAULT 1;
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (lane, state, priority, next_try, id);
