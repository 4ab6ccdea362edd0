-- Appends one commit atomically.
--
-- KEYS  1 the log  2 the index of the order: the entry numbers of its events  3 the key of its request id (if it has one)
-- ARGV  1 the expected revision of the order; -1: any, -2: at least one; then ' <entry number>' of the newest entry that the node has seen,
--         and ' <entry number>' of the order's last event if it is to be checked
--       with KEYS[3]: 2 the field of the request in the hash KEYS[3], empty if KEYS[3] is a string  3 the record of the request
--         4 the request as stored in the first entry of the commit
--       then the events
-- Returns {last revision, position}, {-1, actual revision}, {-2, the record of the request}, {-3, the last number that the log has given} if
-- that is lower than the entry that the node has seen: the log has been replaced by another one, or {-4, the number of the order's last entry} if
-- that entry has been deleted from the log.

local expected, seen, last = string.match(ARGV[1], '^(%S+) (%S+) ?(%S*)$')
expected, seen = tonumber(expected), tonumber(seen)
-- In a log from which nothing has been deleted, the length gives it.
if redis.call('XLEN', KEYS[1]) < seen then
  -- The last number given, whether its entry has been deleted or not: a log that has lost its newest entries is damaged, not replaced.
  local newest, info = 0, redis.pcall('XINFO', 'STREAM', KEYS[1])
  for i = 1, info.err and 0 or #info, 2 do
    if info[i] == 'last-generated-id' then newest = tonumber(string.sub(info[i + 1], 3)) or 0 end
  end
  if newest < seen then return {-3, newest} end
end
local revision = redis.call('LLEN', KEYS[2])
local holds = revision == expected or expected == -1 or (expected == -2 and revision > 0)
-- In a log that has replaced another one, the revision may be the same although the event is not.
if holds and last ~= '' then holds = redis.call('LINDEX', KEYS[2], -1) == last end
local first, request, in_string = 2, '', ARGV[2] == ''

if KEYS[3] then
  local known
  if in_string then known = redis.call('GET', KEYS[3]) else known = redis.call('HGET', KEYS[3], ARGV[2]) end
  if known then return {-2, known} end
  first, request = 5, ARGV[4]
end

if not holds then return {-1, revision} end
local missing = missing_last_event(KEYS[1], KEYS[2], revision)
if missing then return {-4, missing} end

need('XADD', KEYS[1], '0-*', 'r', '0')
need('RPUSH', KEYS[2], '0')
if KEYS[3] then
  if in_string then need('SET', KEYS[3], '') else need('HSET', KEYS[3], '', '') end
end

local remember = KEYS[3] and ARGV[3] .. ' ' .. revision + 1
local position
for i = first, #ARGV do
  revision = revision + 1
  -- '0-*' numbers the entries 1, 2, 3 ...: positions need no separate counter. Only the first command can fail (the key is not a stream, memory is
  -- exhausted, Redis refuses writes), and then nothing has been written.
  position = string.sub(redis.call('XADD', KEYS[1], '0-*', 'r', revision, 'e', ARGV[i], 'q', request), 3)
  request = ''
  redis.call('RPUSH', KEYS[2], position)
end
if KEYS[3] then
  if in_string then redis.call('SET', KEYS[3], remember) else redis.call('HSET', KEYS[3], ARGV[2], remember) end
end
return {revision, tonumber(position)}
