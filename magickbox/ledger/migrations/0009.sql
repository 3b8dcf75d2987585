-- Groups of destinations: for which group and of which study a delivery is, whose turn was last, and to which
-- destination each attempt went, since a delivery may change its member.
ALTER TABLE deliveries ADD COLUMN grp TEXT NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN study TEXT NOT NULL DEFAULT '';
CREATE INDEX deliveries_of_group ON deliveries (grp, study, id) WHERE grp <> '';
CREATE INDEX deliveries_in_vain ON deliveries (grp, id) WHERE grp <> '' AND state = 'OPEN' AND tries > 0;
ALTER TABLE delivery_attempts ADD COLUMN lane TEXT NOT NULL DEFAULT '';
CREATE TABLE group_turns (
    name TEXT PRIMARY KEY,
    last TEXT NOT NULL                   -- the member that had the last turn
) STRICT, WITHOUT ROWID;
