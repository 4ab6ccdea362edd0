-- Prepended to every script. Redis does not roll back the writes of a script when it refuses one of its later commands: each script checks before
-- its first write that all its commands are permitted.
local function need(...)
  if redis.acl_check_cmd(...) then return end
  local words, why = {...}, redis.pcall(...)
  error({err = 'NOPERM [' .. words[1] .. ' ' .. words[2] .. '] ' .. tostring(why.err)})
end

