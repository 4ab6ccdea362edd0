-- Prepended to the scripts of a consumer.
--
-- Returns nil for the live handle; otherwise 'lost' if entries of the stream were lost and no consumer was created since, or 'replaced'.
local function why_void(consumers, name, handle)
  local live = redis.call('HGET', consumers, name)
  if live == handle then return nil end
  return live == '' and 'lost' or 'replaced'
end

