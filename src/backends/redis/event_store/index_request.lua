-- Compares the record of a request with the log.
--
-- KEYS  1 the log  2 the index of its order
-- ARGV  1 the first revision of its commit  2 the last one  3 the order as stored in its entries  4 the request as stored in the first of them
-- Returns {'whole'}, {'short', number of events of the order}, or {'gone' or 'other', the position of the first event}, as index.lua does.

local length, number = redis.call('LLEN', KEYS[2]), redis.call('LINDEX', KEYS[2], tonumber(ARGV[1]) - 1)
if not number or length < tonumber(ARGV[2]) then return {'short', length} end
local id = '0-' .. number
local entry = string.match(number, '^%d+$') and redis.call('XRANGE', KEYS[1], id, id)[1]
if not entry then return {'gone', number} end
local fields = entry[2]
local is_its = fields[2] == ARGV[1] and string.sub(fields[4] or '', 25, 32) == ARGV[3]
-- The first logs were written without requests.
if not is_its or (fields[6] and fields[6] ~= ARGV[4]) then return {'other', number} end
return {'whole'}
