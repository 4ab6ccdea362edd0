-- Prepended to every script of the log: a log that is gone, or has been replaced by another one, is neither read nor written.
--
-- The last of KEYS names the log; the last of ARGV is its expected id, empty if that is not known yet. Both are removed here.
local names_log, log_id = table.remove(KEYS), table.remove(ARGV)
if log_id ~= '' then
  local found = redis.call('GET', names_log)
  if found ~= log_id then error({err = 'NOLOG ' .. (found and 'another' or 'none')}) end
end

