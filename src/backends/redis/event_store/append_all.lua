-- Appends commits one after the other, each as append.lua does, up to the first that fails.
--
-- KEYS  1 the log  then for each commit: the index of its order, and the key of its request id (if it has one)
-- ARGV  for each commit: the expected revision of the order  the number of its events
--       the place of its request: '' none, 'hash' in a hash, 'string' in a string;  except for none: the field in the hash  the complete
--       record of the request  the request as stored in the first entry of the commit
--       then its events
-- Returns {commits appended, position of the last event}, and if not all were appended {commits appended, -1, actual revision},
-- {commits appended, -2} for a known request, {commits appended, -3, the error}, or {commits appended, -4, the number of the order's last entry} if that
-- entry has been deleted from the log.

local key, arg, done, position = 2, 1, 0, nil
while arg <= #ARGV do
  local index, expected, count, kind = KEYS[key], tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), ARGV[arg + 2]
  key, arg = key + 1, arg + 3
  local requests, field, remember, request = nil, nil, nil, ''
  if kind ~= '' then
    requests, field, remember, request = KEYS[key], ARGV[arg], ARGV[arg + 1], ARGV[arg + 2]
    key, arg = key + 1, arg + 3
  end

  local revision = redis.call('LLEN', index)
  if revision ~= expected then return {done, -1, revision} end
  if kind == 'string' and redis.call('EXISTS', requests) == 1 then return {done, -2} end
  if kind == 'hash' and redis.call('HEXISTS', requests, field) == 1 then return {done, -2} end
  local missing = missing_last_event(KEYS[1], index, revision)
  if missing then return {done, -4, missing} end

  need('XADD', KEYS[1], '0-*', 'r', '0')
  need('RPUSH', index, '0')
  if kind == 'string' then need('SET', requests, '') end
  if kind == 'hash' then need('HSET', requests, field, '') end
  for i = 1, count do
    local id = redis.pcall('XADD', KEYS[1], '0-*', 'r', revision + i, 'e', ARGV[arg], 'q', request)
    -- Only the first one can fail, and then nothing of this commit has been written.
    if type(id) == 'table' then return {done, -3, id.err} end
    position = string.sub(id, 3)
    redis.call('RPUSH', index, position)
    arg, request = arg + 1, ''
  end
  if kind == 'string' then redis.call('SET', requests, remember) end
  if kind == 'hash' then redis.call('HSET', requests, field, remember) end
  done = done + 1
end
return {done, tonumber(position)}
