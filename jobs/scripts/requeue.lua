-- A job loses its worker and goes back to the front of its user's line, to be continued behind the tokens published.
-- KEYS  1 record  2 event log  3 leases  6 queue deadlines  7 RQ's job  8 fair order
--       9 prefix of minutes
-- ARGV  1 job id  2 channel  3 attempt, or '' for whatever attempt's lease has run out  4 now, ms  5 1 for a crash
--       6 crashes that end a job  7 error then, JSON
-- Returns the state it is in now, or 'stale' when there was nothing to do.
local record = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'cancel', 'lane', 'user_key')
if record[1] ~= 'in_progress' then
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 'stale'
end
if ARGV[3] == '' then
  local lease = redis.call('ZSCORE', KEYS[3], ARGV[1])
  if lease and tonumber(lease) > tonumber(ARGV[4]) then return 'stale' end
elseif record[2] ~= ARGV[3] then
  return 'stale'
end
if record[3] == '1' then
  finish(KEYS, ARGV[1], ARGV[2], 'cancelled', ARGV[4], '', '')
  return 'cancelled'
end
if ARGV[5] == '1' and redis.call('HINCRBY', KEYS[1], 'crashes', 1) >= tonumber(ARGV[6]) then
  finish(KEYS, ARGV[1], ARGV[2], 'failed', ARGV[4], '', ARGV[7])
  return 'failed'
end
redis.call('HSET', KEYS[1], 'state', 'queued')
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[6], lost_ms(KEYS[1]), ARGV[1]) -- for when no worker takes it up again
fair.join(KEYS[8], record[4], record[5], ARGV[1], true)
append(KEYS[2], ARGV[2], 'status', '{"status":"queued"}')
return 'queued'
