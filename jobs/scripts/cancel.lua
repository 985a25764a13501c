-- Somebody no longer wants a job. A queued one ends here, as cancelled, or as expired with ARGV 4; a running one is
-- marked, and its worker ends it.
-- KEYS  1 record  2 event log  3 leases  6 queue deadlines  7 RQ's job  8 fair order  9 prefix of minutes
-- ARGV  1 job id  2 channel  3 now, ms  4 'expired' to do so only when its queue deadline has passed
--       5 error, JSON or ''  6 error for a job that lost its worker for good, JSON
-- Returns the state it is in now; false for no such job. A queued one leaves its line at once: O(jobs its user has waiting).
local record = redis.call('HMGET', KEYS[1], 'state', 'queue_deadline_ms', 'attempt', 'lane', 'user_key', 'started_ms')
local state = record[1]
if ARGV[4] == 'expired' then
  if state == 'queued' and record[3] == '0' and tonumber(record[2]) <= tonumber(ARGV[3]) then
    fair.leave(KEYS[8], record[4], record[5], ARGV[1])
    finish(KEYS, ARGV[1], ARGV[2], 'expired', ARGV[3], '', ARGV[5])
    return 'expired'
  end
  -- It ran, and no worker has ended it at its run deadline nor taken it up again.
  local lost = tonumber(record[6] or '0') > 0 and lost_ms(KEYS[1]) <= tonumber(ARGV[3])
  if lost and (state == 'queued' or state == 'in_progress') then
    if state == 'queued' then fair.leave(KEYS[8], record[4], record[5], ARGV[1]) end
    finish(KEYS, ARGV[1], ARGV[2], 'failed', ARGV[3], '', ARGV[6])
    return 'failed'
  end
elseif state == 'queued' then
  fair.leave(KEYS[8], record[4], record[5], ARGV[1])
  finish(KEYS, ARGV[1], ARGV[2], 'cancelled', ARGV[3], '', ARGV[5])
  return 'cancelled'
elseif state == 'in_progress' then
  redis.call('HSET', KEYS[1], 'cancel', '1')
end
return state
