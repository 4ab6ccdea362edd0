-- Acknowledges messages of a consumer.
--
-- KEYS  1 the stream  2 the consumers  3 the replayed dead letters of this one
-- ARGV  1 the name  2 its handle  then ids: '0-<number>' of the stream, 'r<id>' of the replayed
-- Returns 'done' or 'replaced'.

if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 'replaced' end
if #ARGV > 2 then
  need('XDEL', KEYS[3], '0-0')
  need('XACK', KEYS[1], ARGV[1], '0-0')
end
for i = 3, #ARGV do
  if string.sub(ARGV[i], 1, 1) == 'r' then
    redis.call('XDEL', KEYS[3], string.sub(ARGV[i], 2))
  else
    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  end
end
return 'done'
