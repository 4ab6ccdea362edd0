-- Looks for lost messages of a log.
--
-- KEYS  1 the stream  2 its record  3 the consumers  4 the position of the last message of the log
-- ARGV  1 the log  2 after how many losses its missing messages are about to be published again, empty if they are not
--       3 the position after which they are published again  then the consumers that must get all of them
-- Returns {position of the last message, recorded losses}, and if messages are missing in addition {…, the record, the consumers}.

for i = 4, #ARGV do
  if redis.call('HEXISTS', KEYS[3], ARGV[i]) == 0 then
    need('HSET', KEYS[3], ARGV[i], '')
    need('XGROUP', 'CREATE', KEYS[1], ARGV[i], '0', 'MKSTREAM')
    keep_for(KEYS[1], KEYS[3], ARGV[i])
  end
end
local losses = count_losses(KEYS[1], KEYS[2], KEYS[3])
local last, good = redis.call('GET', KEYS[4]), made_good(KEYS[2], KEYS[4], ARGV[1], losses)
-- Not after another loss in the meantime.
if ARGV[2] == tostring(losses) then
  need('HSET', KEYS[2], '', '')
  need('SET', KEYS[4], '')
  if last and good ~= losses and tonumber(last) > tonumber(ARGV[3]) then
    -- A publisher that does not know of the loss is refused.
    last = ARGV[3]
    redis.call('SET', KEYS[4], last)
  end
  redis.call('HSET', KEYS[2], 'losses', losses, 'log:' .. ARGV[1], losses)
  good = losses
end
local recorded = redis.call('HGET', KEYS[2], 'losses')
if good == losses then return {last, recorded} end
return {last, recorded, redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3])}
