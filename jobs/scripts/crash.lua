-- The engine crashed while an attempt ran in it.
-- KEYS  1 record
-- ARGV  1 job id  2 channel  3 attempt  4 which crash: sent again, it counts once
-- Returns how often that has happened to the job; 0, and nothing is written, when it is not this attempt's any more.
local record = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'crash', 'crashes')
if record[1] ~= 'in_progress' or record[2] ~= ARGV[3] then return 0 end
if record[3] == ARGV[4] then return tonumber(record[4]) end
redis.call('HSET', KEYS[1], 'crash', ARGV[4])
return redis.call('HINCRBY', KEYS[1], 'crashes', 1)
