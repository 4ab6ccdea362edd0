-- Appends one commit: all of it or nothing, in one step.
--
-- KEYS  1 the log  2 the index of the order: the entry numbers of its events  3 where its request id is kept (if it has one)
-- ARGV  1 the revision that the order must have; -1: any, -2: one at least; then ' <entry number>' of the newest entry that the node has seen,
--         and ' <entry number>' of the order's last event where that matters
--       with KEYS[3]: 2 the field of the request in the hash KEYS[3], empty if KEYS[3] is a string  3 what to remember of the request
--         4 the request as the first entry of the commit has it
--       then the events
-- Answers {last revision, position}, {-1, actual revision}, {-2, what was remembered of the request} or {-3, the number of the log's newest
-- entry} where that is lower than what the node has seen: another log has taken the place of the one that it knows.

local expected, seen, last = string.match(ARGV[1], '^(%S+) (%S+) ?(%S*)$')
expected, seen = tonumber(expected), tonumber(seen)
-- Of a log that nobody has cut something out of the length says it.
if redis.call('XLEN', KEYS[1]) < seen then
  local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
  newest = newest[1] and tonumber(string.sub(newest[1][1], 3)) or 0
  if newest < seen then return {-3, newest} end
end
local revision = redis.call('LLEN', KEYS[2])
local holds = revision == expected or expected == -1 or (expected == -2 and revision > 0)
-- In a log that has taken the place of another one the revision may be the same, and the event another.
if holds and last ~= '' then holds = redis.call('LINDEX', KEYS[2], -1) == last end
local first, request, in_string = 2, '', ARGV[2] == ''

if KEYS[3] then
  local known
  if in_string then known = redis.call('GET', KEYS[3]) else known = redis.call('HGET', KEYS[3], ARGV[2]) end
  if known then return {-2, known} end
  first, request = 5, ARGV[4]
end

if not holds then return {-1, revision} end

need('XADD', KEYS[1], '0-*', 'r', '0')
need('RPUSH', KEYS[2], '0')
if KEYS[3] then
  if in_string then need('SET', KEYS[3], '') else need('HSET', KEYS[3], '', '') end
end

local remember = KEYS[3] and ARGV[3] .. ' ' .. revision + 1
local position
for i = first, #ARGV do
  revision = revision + 1
  -- '0-*' numbers the entries 1, 2, 3 ...: positions need no counter of their own. Only the first can fail (the key is no stream, there is no
  -- memory, Redis takes no writes), and then nothing has been written.
  position = string.sub(redis.call('XADD', KEYS[1], '0-*', 'r', revision, 'e', ARGV[i], 'q', request), 3)
  request = ''
  redis.call('RPUSH', KEYS[2], position)
end
if KEYS[3] then
  if in_string then redis.call('SET', KEYS[3], remember) else redis.call('HSET', KEYS[3], ARGV[2], remember) end
end
return {revision, tonumber(position)}
