-- Reads events of one order through its index, in one round trip.
--
-- KEYS  1 the log  2 the index of the order
-- ARGV  1 the first revision to read, from 1  2 how many  3 'forward' or 'backward'  4 the number of bytes after which to stop
-- Returns the entries of the log, in the requested order.

local from, count, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local numbers
if ARGV[3] == 'forward' then
  numbers = redis.call('LRANGE', KEYS[2], from - 1, from + count - 2)
else
  local last = math.min(from, redis.call('LLEN', KEYS[2]))
  if last == 0 then return {} end
  numbers = redis.call('LRANGE', KEYS[2], math.max(last - count, 0), last - 1)
  for i = 1, math.floor(#numbers / 2) do
    numbers[i], numbers[#numbers + 1 - i] = numbers[#numbers + 1 - i], numbers[i]
  end
end

local entries, bytes = {}, 0
for i, number in ipairs(numbers) do
  local id = '0-' .. number
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  -- The caller reports an index that points to nothing.
  if not entry then
    entries[i] = {id}
    break
  end
  entries[i] = entry
  -- Without the header, which is not part of the payload.
  bytes = bytes + math.max(#(entry[2][4] or '') - 32, 0)
  if bytes >= limit then break end
end
return entries
