-- Writes, and leaves nothing behind: Redis refuses it whenever it refuses the writes of the other scripts.
--
-- KEYS  1 a key for this purpose only

redis.call('SET', KEYS[1], '1')
redis.call('DEL', KEYS[1])
return 1
