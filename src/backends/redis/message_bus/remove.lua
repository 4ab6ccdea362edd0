-- Removes a consumer with everything that is stored for it, except its dead letters.
--
-- KEYS  1 the stream  2 the consumers  3 the replayed dead letters of this one
-- ARGV  1 the name

need('HDEL', KEYS[2], ARGV[1])
need('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
need('DEL', KEYS[3])
redis.call('HDEL', KEYS[2], ARGV[1])
-- Without a stream, nothing was ever published or consumed.
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1]) end
redis.call('DEL', KEYS[3])
return 1
