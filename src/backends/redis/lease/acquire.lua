-- Makes a holder the owner of a lease, unless another holder owns it.
--
-- KEYS  1 the lease, '<token> <holder>', removed when it expires  2 the last token of its name, which is kept
-- ARGV  1 the holder  2 the time to live in ms
-- Returns the token, or nothing.

local owner = redis.call('GET', KEYS[1])
if owner and string.match(owner, '^%d+ (.*)$') ~= ARGV[1] then return false end
need('SET', KEYS[1], '', 'PX', ARGV[2])
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token .. ' ' .. ARGV[1], 'PX', ARGV[2])
return token
