-- Version 1.

-- Facts about the file: 'log_id'; 'lease_token', the last fencing token given out; 'read_model', the position up to which
-- events are in the rows below.
CREATE TABLE facts (
  name  TEXT NOT NULL PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The log. Positions are 1, 2, 3 ... without gaps. The checksum is over stream, revision, position and payload.
CREATE TABLE log (
  position INTEGER NOT NULL PRIMARY KEY,
  stream   INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  payload  BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX log_by_stream ON log (stream, revision);

-- The commits that carry a request id. Scope 0: unique in its stream; scope 1: in the whole log, with 0 for the stream.
-- The commit is the last `events` events up to `position`; everything else about it is in the log.
CREATE TABLE requests (
  scope       INTEGER NOT NULL,
  stream      INTEGER NOT NULL,
  id          TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  position    INTEGER NOT NULL,
  events      INTEGER NOT NULL,
  checksum    INTEGER NOT NULL,
  PRIMARY KEY (scope, stream, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
  name          TEXT NOT NULL PRIMARY KEY,
  position      INTEGER NOT NULL,
  fencing_token INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The read model: derived from the log, may be deleted together with the fact 'read_model' and is then rebuilt.
CREATE TABLE orders (
  id         INTEGER NOT NULL PRIMARY KEY,
  customer   TEXT NOT NULL,
  status     INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  amount     INTEGER NOT NULL,
  currency   TEXT NOT NULL,
  item_count INTEGER NOT NULL,
  revision   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Every list is a merge of one range a status: with two indexes all filters cost the same. The id follows in both as the key of
-- the table; a row id would follow as well, but SQLite does not begin a range of (created_at, id) at one.
CREATE INDEX orders_by_status ON orders (status, created_at);
CREATE INDEX orders_by_customer ON orders (customer, status, created_at);

-- Counts and sums of the orders, kept up to date. The amount is a big-endian i128.
CREATE TABLE totals (
  status   INTEGER NOT NULL,
  currency TEXT NOT NULL,
  count    INTEGER NOT NULL,
  amount   BLOB NOT NULL,
  PRIMARY KEY (status, currency)
) STRICT, WITHOUT ROWID;

-- Written to check that the file is writable.
CREATE TABLE probe (
  id     INTEGER NOT NULL PRIMARY KEY,
  filler BLOB NOT NULL
) STRICT;
