-- Takes dead letters of a consumer away: to be replayed, or for good.
--
-- KEYS  1 the dead letters  2 their ids by event  3 the consumers  4 the replayed ones
-- ARGV  1 'replay' or 'discard'  2 the name  then the events
-- Answers how many there were, or 'unknown' if nobody is there to replay them to.

local replay = ARGV[1] == 'replay'
if replay and redis.call('HEXISTS', KEYS[3], ARGV[2]) == 0 then return 'unknown' end
local taken = {}
for i = 3, #ARGV do
  local id = redis.call('HGET', KEYS[2], ARGV[i])
  if id then
    redis.call('HDEL', KEYS[2], ARGV[i])
    local ms, sequence = string.match(id, '^(%d+)%-(%d+)$')
    taken[#taken + 1] = {id, tonumber(ms), tonumber(sequence)}
  end
end
-- The oldest first, whatever the order that they were named in.
table.sort(taken, function(a, b) return a[2] < b[2] or (a[2] == b[2] and a[3] < b[3]) end)
for _, letter in ipairs(taken) do
  if replay then
    local fields = redis.call('XRANGE', KEYS[1], letter[1], letter[1])[1][2]
    -- Without the reason and the attempts, which came last.
    redis.call('XADD', KEYS[4], '0-*', unpack(fields, 1, #fields - 4))
  end
  redis.call('XDEL', KEYS[1], letter[1])
end
return #taken
