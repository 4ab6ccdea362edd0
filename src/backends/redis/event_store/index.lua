-- Compares a part of an order's index with the log.
--
-- KEYS  1 the log  2 the index of the order
-- ARGV  1 the first revision, from 1  2 how many  3 the order as stored in its entries
-- Returns {number compared, number of those that do not lead to their event, and of the first of these: its position, its revision, 'gone' if the log
--          does not have the position, or 'other' if another event is there}.

local from, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local numbers = redis.call('LRANGE', KEYS[2], from - 1, from + count - 2)
local wrong, position, revision, why = 0, '', '', ''
for i, number in ipairs(numbers) do
  local expected, id = string.format('%.0f', from + i - 1), '0-' .. number
  local entry = string.match(number, '^%d+$') and redis.call('XRANGE', KEYS[1], id, id)[1]
  if not entry or entry[2][2] ~= expected or string.sub(entry[2][4] or '', 25, 32) ~= ARGV[3] then
    if wrong == 0 then position, revision, why = number, expected, entry and 'other' or 'gone' end
    wrong = wrong + 1
  end
end
return {#numbers, wrong, position, revision, why}
