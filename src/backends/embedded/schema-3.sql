-- Version 3: where a commit begins and ends, and which request made it, found by its position in the log.

-- The commits of more than one event: the last `events` events up to `position`. Every other event is a commit of its own.
CREATE TABLE commits (
  position INTEGER NOT NULL PRIMARY KEY,
  events   INTEGER NOT NULL
) STRICT;
-- Of the commits of versions 1 and 2 those with a request id are known; no others of more than one event were ever made.
INSERT INTO commits SELECT position, events FROM requests WHERE events > 1;

CREATE INDEX requests_by_position ON requests (position);
