-- An id was picked but its worker died before the job began: back to the front of its user's line.
-- KEYS  1 record  5 the intermediate list  8 fair order
-- ARGV  1 job id
-- Returns 1 when it was put back.
if redis.call('LREM', KEYS[5], 1, ARGV[1]) == 0 then return 0 end
local record = redis.call('HMGET', KEYS[1], 'state', 'lane', 'user_key')
if record[1] ~= 'queued' then return 0 end
fair.join(KEYS[8], record[2], record[3], ARGV[1], true)
return 1
