-- One step's new tokens of a job; without data, a sign of life. Fence, charge, append, publish, renew the lease, and say
-- what the worker must know, in one round trip.
-- KEYS  1 record  2 event log  3 leases  8 fair order
-- ARGV  1 job id  2 channel  3 attempt  4 token events published before  5 tokens in this one  6 its data, JSON or ''
--       7 lease until, ms
-- Returns 'ok'; 'cancel' when the caller no longer wants the job; 'stale' when it is not this attempt's any more:
-- then nothing was written. Sent again after a broken connection, it changes nothing.
local record = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'published', 'cancel', 'lane', 'user_key',
  'weight')
if record[1] ~= 'in_progress' or record[2] ~= ARGV[3] then return 'stale' end
if ARGV[6] ~= '' and record[3] == ARGV[4] then
  redis.call('HINCRBY', KEYS[1], 'published', 1)
  redis.call('HINCRBY', KEYS[1], 'tokens', ARGV[5])
  fair.charge(KEYS[8], record[5], record[6], tonumber(record[7]), fair.COMPLETION_COST * tonumber(ARGV[5]))
  append(KEYS[2], ARGV[2], 'token', ARGV[6])
end
redis.call('ZADD', KEYS[3], ARGV[7], ARGV[1])
if record[4] == '1' then return 'cancel' end
return 'ok'
