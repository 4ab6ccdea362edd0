-- Removes dead letters of a consumer: to be redelivered, or permanently.
--
-- KEYS  1 the dead letters  2 their ids by event  3 the consumers  4 the replayed ones
-- ARGV  1 'replay' or 'discard'  2 the name  then the events
-- Returns their number, or 'unknown' if there is no such consumer to redeliver them to.

local replay = ARGV[1] == 'replay'
if replay and redis.call('HEXISTS', KEYS[3], ARGV[2]) == 0 then return 'unknown' end
local taken, gone = {}, {}
for i = 3, #ARGV do
  local id = redis.call('HGET', KEYS[2], ARGV[i])
  if id and not gone[ARGV[i]] then
    gone[ARGV[i]] = true
    local ms, sequence = string.match(id, '^(%d+)%-(%d+)$')
    local letter = redis.call('XRANGE', KEYS[1], id, id)[1]
    taken[#taken + 1] = {id, tonumber(ms), tonumber(sequence), event = ARGV[i], fields = letter and letter[2]}
  end
end
if #taken == 0 then return 0 end

need('HDEL', KEYS[2], '')
need('XDEL', KEYS[1], '0-0')
if replay then need('XADD', KEYS[4], '*', 'f', '') end
-- Oldest first, whatever the order in which they were named.
table.sort(taken, function(a, b) return a[2] < b[2] or (a[2] == b[2] and a[3] < b[3]) end)
local count = 0
for _, letter in ipairs(taken) do
  -- First the commands that may run out of memory. Without the reason and the attempts, which are the last fields. The ids are times, so that a live
  -- consumer knows what it has seen of a stream that has been deleted in the meantime.
  if replay and letter.fields then redis.call('XADD', KEYS[4], '*', unpack(letter.fields, 1, #letter.fields - 4)) end
  if letter.fields then count = count + 1 end
  redis.call('XDEL', KEYS[1], letter[1])
  redis.call('HDEL', KEYS[2], letter.event)
end
return count
