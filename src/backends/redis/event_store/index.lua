-- Compares a part of an order's index with the log.
--
-- KEYS  1 the log  2 the index of the order
-- ARGV  1 the first revision, from 1  2 how many
-- Returns {number compared, number of those that are not in the log where the index says, the first such position or ''}.

local from, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local numbers = redis.call('LRANGE', KEYS[2], from - 1, from + count - 2)
local wrong, first = 0, ''
for i, number in ipairs(numbers) do
  local id = '0-' .. number
  local entry = string.match(number, '^%d+$') and redis.call('XRANGE', KEYS[1], id, id)[1]
  if not entry or entry[2][2] ~= string.format('%.0f', from + i - 1) then
    if wrong == 0 then first = number end
    wrong = wrong + 1
  end
end
return {#numbers, wrong, first}
