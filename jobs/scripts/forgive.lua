-- A crash that was counted for every job under it was another's: take the count back.
-- KEYS  1 record
-- ARGV  1 job id  2 channel  3 attempt  4 which crash: taken back again, it counts once
-- Returns how often the engine has crashed under the job now.
local record = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'crash', 'crashes')
if record[1] ~= 'in_progress' or record[2] ~= ARGV[3] then return 0 end
if record[3] ~= ARGV[4] then return tonumber(record[4]) end
redis.call('HDEL', KEYS[1], 'crash')
return redis.call('HINCRBY', KEYS[1], 'crashes', -1)
