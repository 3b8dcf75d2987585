-- When a run that failed passingly is made again, at the earliest.
ALTER TABLE jobs ADD COLUMN not_before TEXT;
