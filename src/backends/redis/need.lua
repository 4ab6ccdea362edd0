-- Every script begins with this. Redis does not take back what a script has written when it refuses one of the later commands: each script asks
-- before its first write for all that it is going to run.
local function need(...)
  if redis.acl_check_cmd(...) then return end
  local words, why = {...}, redis.pcall(...)
  error({err = 'NOPERM [' .. words[1] .. ' ' .. words[2] .. '] ' .. tostring(why.err)})
end

