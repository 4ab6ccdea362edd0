-- Publishes as many messages as there is room for, and returns their number.
--
-- KEYS  1 the stream  2 its record  3 the consumers  4 the position of the last message of the publisher's log (if it is named)
-- ARGV  1 the capacity of the stream in messages  2 the channel for plain listeners, before its ':<type>'  3 the source of all messages
--       4 the position that must have been published, empty if there is none  5 the log, empty if it is not named
--       6 the losses that must be recorded, empty if any may
--       then for each: id, type, subject, time, datacontenttype, position, data, stored (empty if data are the stored bytes),
--       traceparent (empty if there is none)
-- Returns {'lost', the position of the last message} if that is an earlier one, {'missing', ''} if the stream lacks messages of the log; otherwise
--         {number accepted, number that would fit in addition, the consumer that keeps the stream full or '', the error of the channel or ''}.

local capacity = tonumber(ARGV[1])
local FIELDS = 9
local FIRST = 6
local count = (#ARGV - FIRST) / FIELDS

local function number(id)
  return tonumber(string.match(id, '^0%-(%d+)$'))
end

-- Removes entries that every consumer has acknowledged. Returns the consumer that needs the oldest remaining one.
local function free()
  local groups = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XINFO', 'GROUPS', KEYS[1]) or {}
  if #groups == 0 then
    -- Nothing waits for any entry: the oldest are removed.
    redis.call('XTRIM', KEYS[1], 'MAXLEN', math.max(capacity - math.max(count, 1), 0))
    return ''
  end
  local needed, slowest
  for _, group in ipairs(groups) do
    local about = {}
    for i = 1, #group, 2 do about[group[i]] = group[i + 1] end
    local from = number(about['last-delivered-id']) + 1
    if about['pending'] > 0 then from = number(redis.call('XPENDING', KEYS[1], about['name'])[2]) end
    if not needed or from < needed then needed, slowest = from, about['name'] end
  end
  redis.call('XTRIM', KEYS[1], 'MINID', '0-' .. string.format('%.0f', needed))
  return slowest
end

local losses = count_losses(KEYS[1], KEYS[2], KEYS[3])
if KEYS[4] then
  local is_other = ARGV[6] ~= '' and redis.call('HGET', KEYS[2], 'losses') ~= ARGV[6]
  if is_other or made_good(KEYS[2], KEYS[4], ARGV[5], losses) ~= losses then return {'missing', ''} end
end
if KEYS[4] and ARGV[4] ~= '' then
  local mark = redis.call('GET', KEYS[4]) or '0'
  if tonumber(mark) < tonumber(ARGV[4]) then return {'lost', mark} end
end

need('XADD', KEYS[1], '0-*', 'f', '')
need('HSET', KEYS[2], '', '')
if KEYS[4] then need('SET', KEYS[4], '') end
local room = capacity - redis.call('XLEN', KEYS[1])
local slowest = ''
if room < math.max(count, 1) then
  slowest = free()
  redis.call('HSET', KEYS[2], 'length', redis.call('XLEN', KEYS[1]))
  room = capacity - redis.call('XLEN', KEYS[1])
end

local unheard = ''
local accepted = math.max(math.min(room, count), 0)
for message = 0, accepted - 1 do
  local at = FIRST + message * FIELDS
  local fields = {'specversion', '1.0', 'id', ARGV[at + 1], 'source', ARGV[3], 'type', ARGV[at + 2],
    'subject', ARGV[at + 3], 'time', ARGV[at + 4], 'datacontenttype', ARGV[at + 5], 'position', ARGV[at + 6],
    'data', ARGV[at + 7], 'stored', ARGV[at + 8]}
  if ARGV[5] ~= '' then
    fields[#fields + 1] = 'log'
    fields[#fields + 1] = ARGV[5]
  end
  if ARGV[at + 9] ~= '' then
    fields[#fields + 1] = 'traceparent'
    fields[#fields + 1] = ARGV[at + 9]
  end
  redis.call('XADD', KEYS[1], '0-*', unpack(fields))
  -- Not guaranteed: a listener may be disconnected at any time. The entry has been added, and must not be added again because of this.
  local heard = redis.pcall('PUBLISH', ARGV[2] .. ':' .. ARGV[at + 2], ARGV[at + 7])
  if type(heard) == 'table' then unheard = '[PUBLISH ' .. ARGV[2] .. ':' .. ARGV[at + 2] .. '] ' .. heard.err end
end
if accepted > 0 then
  redis.call('HSET', KEYS[2], 'length', redis.call('XLEN', KEYS[1]), 'losses', losses)
  if KEYS[4] then
    redis.call('HSET', KEYS[2], 'log:' .. ARGV[5], losses)
    -- Together with the messages, so that a server that loses some of them has the mark from before them.
    redis.call('SET', KEYS[4], ARGV[FIRST + (accepted - 1) * FIELDS + 6])
  end
end
return {accepted, room - accepted, slowest, unheard}
