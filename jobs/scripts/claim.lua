-- A worker takes a job that it popped: queued → in_progress, or expired when it waited too long for its first run.
-- Only now the id leaves the intermediate list: from here on its lease tells whether the worker lives.
-- KEYS  1 record  2 event log  3 leases  5 the engine's intermediate list  6 queue deadlines  7 RQ's job
-- ARGV  1 job id  2 channel  3 now, ms  4 lease until, ms  5 worker
--       6 error for expired, JSON  7 device
-- Returns 1 when the job is the caller's, 0 when there is nothing to do (cancelled meanwhile, or popped twice).
redis.call('LREM', KEYS[5], 1, ARGV[1])
local record = redis.call('HMGET', KEYS[1], 'state', 'queue_deadline_ms', 'attempt')
if record[1] ~= 'queued' then return 0 end
if record[3] == '0' and tonumber(record[2]) <= tonumber(ARGV[3]) then
  finish(KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7], ARGV[1], ARGV[2], 'expired', ARGV[3], '', ARGV[6])
  return 0
end
redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'state', 'in_progress', 'worker', ARGV[5], 'device', ARGV[7])
if record[3] == '0' then redis.call('HSET', KEYS[1], 'started_ms', ARGV[3]) end
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
append(KEYS[2], ARGV[2], 'status', '{"status":"in_progress","device":"' .. ARGV[7] .. '"}')
return 1
