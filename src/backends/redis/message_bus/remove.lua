-- Removes a consumer with everything that is stored for it, except its dead letters.
--
-- KEYS  1 the stream  2 the consumers  3 the replayed dead letters of this one  4 the record of the stream
-- ARGV  1 the name

need('HDEL', KEYS[2], ARGV[1])
need('HDEL', KEYS[4], ARGV[1])
need('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
need('DEL', KEYS[3])
redis.call('HDEL', KEYS[2], ARGV[1])
local record, own = redis.call('HGETALL', KEYS[4]), ARGV[1] .. ' '
for i = 1, #record, 2 do
  if string.sub(record[i], 1, #own) == own then redis.call('HDEL', KEYS[4], record[i]) end
end
-- Without a stream, nothing was ever published or consumed.
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1]) end
redis.call('DEL', KEYS[3])
return 1
