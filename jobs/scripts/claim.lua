-- A worker takes a job that it picked: queued → in_progress. Only now the id leaves the intermediate list: from here on
-- its lease tells whether the worker lives.
-- KEYS  1 record  2 event log  3 leases  5 the intermediate list  6 queue deadlines
-- ARGV  1 job id  2 channel  3 now, ms  4 lease until, ms  5 worker  6 device
-- Returns the record when the job is the caller's, false when there is nothing to do (cancelled meanwhile, picked twice).
redis.call('LREM', KEYS[5], 1, ARGV[1])
local record = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if record[1] ~= 'queued' then return false end
redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'state', 'in_progress', 'worker', ARGV[5], 'device', ARGV[6])
if record[2] == '0' then redis.call('HSET', KEYS[1], 'started_ms', ARGV[3]) end
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
append(KEYS[2], ARGV[2], 'status', '{"status":"in_progress","device":"' .. ARGV[6] .. '"}')
return redis.call('HGETALL', KEYS[1])
