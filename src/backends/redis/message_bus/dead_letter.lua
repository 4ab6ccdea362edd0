-- Moves a message to the dead letters of its consumer, replacing an earlier one of the same event.
--
-- KEYS  1 the stream  2 the consumers  3 the replayed dead letters  4 the dead letters  5 their ids by event
--       6 the record of the stream
-- ARGV  1 the name  2 its handle  3 the maximum number of dead letters  4 the id, as for ack.lua  5 the event  6 the reason  7 the attempts
-- Returns 'done', 'full', 'lost' or 'replaced'.

local void = why_void(KEYS[2], ARGV[1], ARGV[2])
if void then return void end
local replayed = string.sub(ARGV[4], 1, 1) == 'r'
local id = replayed and string.sub(ARGV[4], 2) or ARGV[4]
local entry = redis.call('XRANGE', replayed and KEYS[3] or KEYS[1], id, id)[1]
if not entry then
  -- Acknowledged before, and there is nothing to move; or lost, and then it is delivered again.
  count_losses(KEYS[1], KEYS[6], KEYS[2])
  return why_void(KEYS[2], ARGV[1], ARGV[2]) or 'done'
end

local earlier = redis.call('HGET', KEYS[5], ARGV[5])
if not earlier and redis.call('XLEN', KEYS[4]) >= tonumber(ARGV[3]) then return 'full' end

need('XADD', KEYS[4], '*', 'f', '')
need('HSET', KEYS[5], '', '')
need('XDEL', KEYS[4], '0-0')
need('XDEL', KEYS[3], '0-0')
need('XACK', KEYS[1], ARGV[1], '0-0')
local fields = entry[2]
for _, value in ipairs({'reason', ARGV[6], 'attempts', ARGV[7]}) do fields[#fields + 1] = value end
-- First the commands that may run out of memory.
redis.call('HSET', KEYS[5], ARGV[5], redis.call('XADD', KEYS[4], '*', unpack(fields)))
if earlier then redis.call('XDEL', KEYS[4], earlier) end
if replayed then redis.call('XDEL', KEYS[3], id) else redis.call('XACK', KEYS[1], ARGV[1], id) end
return 'done'
