-- Saves a checkpoint, if the one that is there allows it.
--
-- KEYS  1 the checkpoint: '<token>:<position>', 20 digits each, since numbers of this size are exact as text only, and ':<fingerprint>' of the
--         event at that position where it is known
-- ARGV  1 the checkpoint to save
-- Answers nothing if it was saved, else what is there.

local ORDERED = 41 -- token and position
local current = redis.call('GET', KEYS[1])
-- As texts of one length they compare as their numbers do: a lower token first, then a lower position under the same one.
if current and string.sub(ARGV[1], 1, ORDERED) < string.sub(current, 1, ORDERED) then return current end
redis.call('SET', KEYS[1], ARGV[1])
return false
