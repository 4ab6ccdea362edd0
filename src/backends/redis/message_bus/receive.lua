-- Takes messages that are new to a consumer, or those again that it has not acknowledged.
--
-- KEYS  1 the stream  2 the consumers  3 the replayed dead letters of this one
-- ARGV  1 the name  2 its handle  3 how many  4 '>' for new ones, or the id after which to take unacknowledged ones
--       5 the id after which to take replayed ones
-- Answers {messages, replayed ones}, or 'replaced', or 'lost' if Redis knows nothing of any consumer.

if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then
  return redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 and 'lost' or 'replaced'
end
-- Before it is noted that the messages have been given out, which must not be without giving them out.
local replayed = redis.call('XRANGE', KEYS[3], '(' .. ARGV[5], '+', 'COUNT', ARGV[3])
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], 'ordersystem', 'COUNT', ARGV[3], 'STREAMS', KEYS[1], ARGV[4])
return {read and read[1][2] or {}, replayed}
