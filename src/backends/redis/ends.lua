-- What a stream has and has had.
--
-- KEYS  1 the stream
-- Answers {how many entries there are, the last id that was given, the id of the first entry or '', of the last one or ''}.

if redis.call('EXISTS', KEYS[1]) == 0 then return {0, '0-0', '', ''} end
local about, info = {}, redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do about[info[i]] = info[i + 1] end
local first, last = about['first-entry'], about['last-entry']
return {about['length'], about['last-generated-id'], first and first[1] or '', last and last[1] or ''}
