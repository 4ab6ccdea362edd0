-- Acknowledges messages of a consumer.
--
-- KEYS  1 the stream  2 the consumers  3 the replayed dead letters of this one  4 the record of the stream
-- ARGV  1 the name  2 its handle  3 of how many logs the progress follows
--       then for each: the log  the position up to which all its events are processed
--       then ids: '0-<number>' of the stream, 'r<id>' of the replayed
-- Returns 'done', 'lost' or 'replaced'.

local void = why_void(KEYS[2], ARGV[1], ARGV[2])
if void then return void end
if #ARGV > 3 then
  need('XDEL', KEYS[3], '0-0')
  need('XACK', KEYS[1], ARGV[1], '0-0')
  need('HSET', KEYS[4], '', '')
end
local last = 3 + 2 * tonumber(ARGV[3])
-- Beside the stream, so that the events after these positions can be published again if it is lost.
for i = 4, last, 2 do redis.call('HSET', KEYS[4], ARGV[1] .. ' ' .. ARGV[i], ARGV[i + 1]) end
for i = last + 1, #ARGV do
  if string.sub(ARGV[i], 1, 1) == 'r' then
    redis.call('XDEL', KEYS[3], string.sub(ARGV[i], 2))
  else
    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  end
end
return 'done'
