-- Creates the consumer of a name, or takes it over.
--
-- KEYS  1 the stream  2 the hash of consumers: the live handle of each name  3 the record of the stream
-- ARGV  1 the name  2 the new handle

-- Before the group is created: the key may not be a hash, or the user may not write it.
redis.call('HEXISTS', KEYS[2], ARGV[1])
need('HSET', KEYS[2], ARGV[1], ARGV[2])
-- Before this handle is entered, which a loss noticed later would make void.
count_losses(KEYS[1], KEYS[3], KEYS[2])
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
