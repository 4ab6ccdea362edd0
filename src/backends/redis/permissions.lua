-- Which of some commands the user may not run. None is run: what may not be is refused, which tells why.
--
-- ARGV  for each: how many words it has, then the words
-- Answers for each that is refused '[command argument] why'.

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
