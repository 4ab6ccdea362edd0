-- The commands that the user may not run. None is executed: a refused one says why.
--
-- ARGV  for each: the number of its words, then the words
-- Returns '[command argument] why' for each refused one.

local refused, at = {}, 1
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  if not redis.acl_check_cmd(unpack(ARGV, at + 1, last)) then
    local why = redis.pcall(unpack(ARGV, at + 1, last))
    local argument = last > at + 1 and ' ' .. ARGV[at + 2] or ''
    refused[#refused + 1] = '[' .. ARGV[at + 1] .. argument .. '] ' .. tostring(why.err)
  end
  at = last + 1
end
return refused
