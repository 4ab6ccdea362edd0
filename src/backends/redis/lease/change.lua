-- Renews or releases a lease, if the caller still owns it.
--
-- KEYS  1 the lease
-- ARGV  1 '<token> <holder>', as it was acquired  2 the time to live in ms; 0 releases it
-- Returns 1 if it was owned.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
