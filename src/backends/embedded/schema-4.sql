-- Version 4: the end of the log, recorded in a second place; a hash that distinguishes the event of a checkpoint from another one.

-- The fact 'head' is the last position of the log, written with every event: a page of the log that has gone bad, even its last one, is
-- missed. The page of this table is not the one of the log.
INSERT INTO facts SELECT 'head', coalesce(max(position), 0) FROM log WHERE true ON CONFLICT DO NOTHING;

ALTER TABLE checkpoints ADD COLUMN fingerprint INTEGER;
