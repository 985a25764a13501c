-- A free slot takes the next job: RQ's list is emptied into the fair order, then the order's choice goes to the
-- intermediate list, its prompt charged. Jobs that waited too long end here as expired, and cost nothing.
-- KEYS  3 leases  4 RQ's waiting list  5 the intermediate list  6 queue deadlines  8 fair order  9 prefix of minutes
-- ARGV  1 now, ms  2 error for expired, JSON  3 1 when the caller was woken by a token of the order's wake list
--       4 prefix of records  5 prefix of RQ's jobs
-- Returns the job's id, or false when nothing waits. Amortised O(log users): an id is moved once from RQ's list.
local function record_of(id)
  return redis.call('HMGET', ARGV[4] .. id, 'state', 'lane', 'user_key', 'weight', 'prompt_tokens', 'attempt',
    'queue_deadline_ms', 'charged')
end

local stray = redis.call('LPOP', KEYS[4])
while stray do
  local record = record_of(stray)
  if record[1] == 'queued' then
    fair.leave(KEYS[8], record[2], record[3], stray) -- It may wait there still.
    fair.join(KEYS[8], record[2], record[3], stray, true)
  end
  stray = redis.call('LPOP', KEYS[4])
end

local id, user = fair.take(KEYS[8], ARGV[3] == '1')
while id do
  local job = ARGV[4] .. id
  local state, lane, _, weight, prompt_tokens, attempt, deadline_ms, charged = unpack(record_of(id))
  if state == 'queued' and attempt == '0' and tonumber(deadline_ms) <= tonumber(ARGV[1]) then
    local keys = {job, job .. ':events', KEYS[3], KEYS[4], KEYS[5], KEYS[6], ARGV[5] .. id, KEYS[8], KEYS[9]}
    finish(keys, id, job .. ':live', 'expired', ARGV[1], '', ARGV[2])
  elseif state == 'queued' then
    if charged ~= '1' then
      fair.charge(KEYS[8], lane, user, tonumber(weight), fair.PROMPT_COST * tonumber(prompt_tokens))
      redis.call('HSET', job, 'charged', '1')
    end
    redis.call('LPUSH', KEYS[5], id)
    return id
  elseif state ~= 'in_progress' then
    fair.release(KEYS[8], user, id)
  end
  id, user = fair.take(KEYS[8])
end
return false
