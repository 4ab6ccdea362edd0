-- Prepended to the scripts that append. Nothing is built upon an event that is gone: the node may still have its order in memory.
--
-- Returns the entry number of the last event of an order with this index and revision, if that entry has been deleted from the log; otherwise nil.
local function missing_last_event(log, index, revision)
  if revision == 0 then return nil end
  local number = redis.call('LINDEX', index, -1)
  local id = '0-' .. number
  if string.match(number, '^%d+$') and not redis.call('XRANGE', log, id, id)[1] then return tonumber(number) end
  return nil
end

