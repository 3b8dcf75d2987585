-- How soon a job is to run, as a person said; empty is its processor's own.
ALTER TABLE jobs ADD COLUMN priority TEXT;
