-- A destination that is dead for days has thousands of deliveries waiting: no look at the others may read them all.
DROP INDEX deliveries_by_lane;
CREATE INDEX deliveries_due ON deliveries (lane, state, next_try, id);
CREATE INDEX deliveries_oldest ON deliveries (lane, state, fallback, opened, id);
CREATE INDEX deliveries_lanes ON deliveries (state, lane);
CREATE INDEX deliveries_by_gate ON deliveries (waits_for) WHERE waits_for IS NOT NULL;
