-- The ends of a stream.
--
-- KEYS  1 the stream
-- Returns {number of entries, last generated id, id of the first entry or '', id of the last entry or ''}.

if redis.call('EXISTS', KEYS[1]) == 0 then return {0, '0-0', '', ''} end
local about, info = {}, redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do about[info[i]] = info[i + 1] end
local first, last = about['first-entry'], about['last-entry']
return {about['length'], about['last-generated-id'], first and first[1] or '', last and last[1] or ''}
