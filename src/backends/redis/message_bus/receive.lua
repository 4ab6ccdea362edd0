-- Receives messages that are new to a consumer, or those that it has not acknowledged.
--
-- KEYS  1 the stream  2 the consumers  3 the replayed dead letters of this one
-- ARGV  1 the name  2 its handle  3 how many  4 '>' for new ones, or the id after which to receive unacknowledged ones
--       5 the id after which to receive replayed ones
-- Returns {messages, replayed ones}, or 'replaced', or 'lost' if Redis has lost messages or consumers.

local void = why_void(KEYS[2], ARGV[1], ARGV[2])
if void then return redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 and 'lost' or void end
-- Before the messages are recorded as delivered, which must not happen without delivering them.
local replayed = redis.call('XRANGE', KEYS[3], '(' .. ARGV[5], '+', 'COUNT', ARGV[3])
local read = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], 'ordersystem', 'COUNT', ARGV[3], 'STREAMS', KEYS[1], ARGV[4])
if read and read.err then
  if string.find(read.err, 'NOGROUP', 1, true) then return 'lost' end
  error(read)
end
return {read and read[1][2] or {}, replayed}
