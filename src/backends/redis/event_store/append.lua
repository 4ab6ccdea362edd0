-- Appends one commit: all of it or nothing, in one step.
--
-- KEYS  1 the log  2 the index of the order: the entry numbers of its events  3 where its request id is kept (if it has one)
-- ARGV  1 the revision that the order must have; -1: any, -2: one at least; with ' <entry number>' that of its last event
--       with KEYS[3]: 2 the field of the request in the hash KEYS[3], empty if KEYS[3] is a string  3 what to remember of the request
--         4 the request as the first entry of the commit has it
--       then the events
-- Answers {last revision, position}, {-1, actual revision} or {-2, what was remembered of the request}.

local revision = redis.call('LLEN', KEYS[2])
local expected, last = string.match(ARGV[1], '^(%S+) ?(%S*)$')
expected = tonumber(expected)
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
