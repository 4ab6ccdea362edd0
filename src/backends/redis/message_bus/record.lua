-- Prepended to the scripts that write the stream, or look for its losses. The record is a hash, and outlives the stream:
--
--   length        how many entries the stream must hold
--   losses        how often entries were found missing
--   log:<id>      after how many of these losses the missing events of that log were published again
--   <name> <log>  the position up to which the consumer has processed the events of that log

-- Keeps all entries from now on for a consumer, whose handle becomes void: it must be created again, since it may hold messages of a lost stream.
local function keep_for(stream, consumers, name)
  redis.call('HSET', consumers, name, '')
  local made = redis.pcall('XGROUP', 'CREATE', stream, name, '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then error(made) end
end

-- Returns how often entries have been lost, after checking whether some are missing now.
local function count_losses(stream, record, consumers)
  local length, losses = redis.call('HGET', record, 'length'), tonumber(redis.call('HGET', record, 'losses') or '0')
  local found = redis.call('XLEN', stream)
  if found >= tonumber(length or '0') then return losses end
  need('HSET', record, '', '')
  need('HSET', consumers, '', '')
  need('XGROUP', 'CREATE', stream, '-', '0', 'MKSTREAM')
  losses = losses + 1
  redis.call('HSET', record, 'length', found, 'losses', losses)
  local handles = redis.call('HGETALL', consumers)
  for i = 1, #handles, 2 do keep_for(stream, consumers, handles[i]) end
  return losses
end

-- After how many losses the stream has all events of a log that consumers need. This is recorded from the first publish on; earlier versions did not
-- record it.
local function made_good(record, published, log, losses)
  local known = redis.call('HGET', record, 'log:' .. log)
  if known then return tonumber(known) end
  return redis.call('GET', published) and 0 or losses
end

