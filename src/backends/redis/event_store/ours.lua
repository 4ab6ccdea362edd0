-- Every script of the log begins with this: a log that is gone, or another one in its place, is neither read nor written.
--
-- The last of KEYS names the log; the last of ARGV is the name that it must have, empty where that is not known yet. Both are taken away here.
local names_log, log_id = table.remove(KEYS), table.remove(ARGV)
if log_id ~= '' then
  local found = redis.call('GET', names_log)
  if found ~= log_id then error({err = 'NOLOG ' .. (found and 'another' or 'none')}) end
end

