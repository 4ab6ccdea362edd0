-- Version 2: the read model in one of two sets of tables, so that one can be rebuilt while the other serves.

-- The sets that are there: 0 is `orders` and `totals`, 1 is `orders_1` and `totals_1`. One of them serves; another one is being built, or is
-- left over. Each has followed the log `log` up to `position`, where the event with the hash `event` is; log 0: it is empty.
-- All of it is derived from the log.
CREATE TABLE read_models (
  slot      INTEGER NOT NULL PRIMARY KEY,
  is_served INTEGER NOT NULL,
  build     INTEGER NOT NULL,
  log       INTEGER NOT NULL,
  position  INTEGER NOT NULL,
  event     INTEGER NOT NULL
) STRICT;
INSERT INTO read_models SELECT 0, 1, 0, iif(f.position > 0, f.log, 0), f.position, 0 FROM (
  SELECT coalesce((SELECT value FROM facts WHERE name = 'log_id'), 0) AS log,
         coalesce((SELECT value FROM facts WHERE name = 'read_model'), 0) AS position
) AS f;
DELETE FROM facts WHERE name = 'read_model';
