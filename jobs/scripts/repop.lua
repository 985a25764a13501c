-- An id was popped but its worker died before the job began: put it back.
-- KEYS  1 record  2 the engine's intermediate list  3 its waiting list
-- ARGV  1 job id
-- Returns 1 when it was put back.
if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 then return 0 end
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then return 0 end
redis.call('LPUSH', KEYS[3], ARGV[1])
return 1
