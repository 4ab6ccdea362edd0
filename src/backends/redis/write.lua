-- Writes, and leaves nothing: Redis refuses it wherever it refuses the writes of the other scripts.
--
-- KEYS  1 a key of its own

redis.call('SET', KEYS[1], '1')
redis.call('DEL', KEYS[1])
return 1
