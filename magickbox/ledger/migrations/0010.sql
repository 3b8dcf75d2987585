-- Lists for people: the newest first, a page at a time, by what a row says, without a look at the rows that are left out.
CREATE INDEX jobs_newest ON jobs (born, id, state, calling_ae, called_ae);
CREATE INDEX deliveries_newest ON deliveries (state);      -- and within a state by id
CREATE INDEX attempts_by_processor ON attempts (processor, began);
