-- Somebody no longer wants a job. A queued one ends here, as cancelled, or as expired with ARGV 4; a running one is
-- marked, and its worker ends it.
-- KEYS  1 record  2 event log  3 leases  4 the engine's waiting list  6 queue deadlines  7 RQ's job
-- ARGV  1 job id  2 channel  3 now, ms  4 'expired' to do so only when its queue deadline has passed
--       5 error, JSON or ''
-- Returns the state it is in now; false for no such job. O(queue length) for a queued one.
--
-- The id leaves the waiting list at once, so that it holds no place there.
local record = redis.call('HMGET', KEYS[1], 'state', 'queue_deadline_ms', 'attempt')
local state = record[1]
if ARGV[4] == 'expired' then
  if state == 'queued' and record[3] == '0' and tonumber(record[2]) <= tonumber(ARGV[3]) then
    redis.call('LREM', KEYS[4], 1, ARGV[1])
    finish(KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7], ARGV[1], ARGV[2], 'expired', ARGV[3], '', ARGV[5])
    return 'expired'
  end
elseif state == 'queued' then
  redis.call('LREM', KEYS[4], 1, ARGV[1])
  finish(KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7], ARGV[1], ARGV[2], 'cancelled', ARGV[3], '', ARGV[5])
  return 'cancelled'
elseif state == 'in_progress' then
  redis.call('HSET', KEYS[1], 'cancel', '1')
end
return state
