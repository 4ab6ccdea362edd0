-- Saves a checkpoint, if the one that is there allows it.
--
-- KEYS  1 the checkpoint: '<token>:<position>', 20 digits each, since numbers of this size are exact as text only
-- ARGV  1 the token  2 the position, both with 20 digits
-- Answers nothing if it was saved, else what is there.

local current = redis.call('GET', KEYS[1])
local saved = ARGV[1] .. ':' .. ARGV[2]
-- As texts of one length they compare as their numbers do: a lower token first, then a lower position under the same one.
if current and saved < current then return current end
redis.call('SET', KEYS[1], saved)
return false
