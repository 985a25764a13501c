-- An id was popped but its worker died before the job began: put it back.
-- KEYS  1 record  4 the engine's waiting list  5 its intermediate list
-- ARGV  1 job id
-- Returns 1 when it was put back.
if redis.call('LREM', KEYS[5], 1, ARGV[1]) == 0 then return 0 end
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then return 0 end
redis.call('LPUSH', KEYS[4], ARGV[1])
return 1
