-- Saves a checkpoint, if the stored one allows it.
--
-- KEYS  1 the checkpoint: '<token>:<position>', 20 digits each, since numbers of this size are exact only as text, and ':<fingerprint>' of the
--         event at that position if it is known
-- ARGV  1 the checkpoint to save
-- Returns nothing if it was saved, otherwise the stored one.

local ORDERED = 41 -- token and position
local current = redis.call('GET', KEYS[1])
-- Texts of equal length compare like their numbers: first by token, then by position.
if current and string.sub(ARGV[1], 1, ORDERED) < string.sub(current, 1, ORDERED) then return current end
redis.call('SET', KEYS[1], ARGV[1])
return false
