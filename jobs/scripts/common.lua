-- Prepended to every script: how a job's log grows, when a job is lost, and the one way to a final state.

-- Append an event to a job's log and publish it with its id, so that who hears it knows where in the log it stands.
local function append(log, channel, event, data)
  local id = redis.call('XADD', log, '*', 'event', event, 'data', data)
  redis.call('PUBLISH', channel, id .. '\n' .. event .. '\n' .. data)
  return id
end

-- When a job that ran counts as lost, ms: a while after its run deadline, at which its worker would have ended it.
local function lost_ms(job)
  local record = redis.call('HMGET', job, 'started_ms', 'run_timeout_ms', 'deadline_ms')
  local deadline_ms = tonumber(record[1] or '0') + tonumber(record[2] or '0')
  local asked_ms = tonumber(record[3] or '0')
  if asked_ms > 0 then deadline_ms = math.min(deadline_ms, asked_ms) end
  return deadline_ms + 10000
end

-- Give a job its final state. The caller has checked that it has none yet, and that it waits in no line.
-- outcome and err are JSON or ''. Its place among its user's running jobs is free, and of the tokens that its user's
-- minute was charged for it, what it did not use goes back. The prompt goes at once; everything else the job left when
-- its ttl_s has passed.
local function finish(keys, id, channel, state, now_ms, outcome, err)
  local job, log, leases, waits, rq_job, fair_order, minutes = keys[1], keys[2], keys[3], keys[6], keys[7], keys[8], keys[9]
  local record = redis.call('HMGET', job, 'user_key', 'reserved_tokens', 'created_ms', 'charged', 'prompt_tokens', 'tokens')
  fair.release(fair_order, record[1], id)
  if record[2] and record[2] ~= '0' then
    local used = tonumber(record[6])
    if record[4] == '1' then used = used + tonumber(record[5]) end
    limits.give_back(minutes .. record[1], math.floor(tonumber(record[3]) / 1000), tonumber(record[2]) - used)
  end
  redis.call('HSET', job, 'state', state, 'ended_ms', now_ms, 'outcome', outcome, 'error', err)
  redis.call('HDEL', job, 'task')
  local done = '{"status":"' .. state .. '"'
  if err ~= '' then done = done .. ',"error":' .. err end
  append(log, channel, 'done', done .. '}')
  redis.call('ZREM', leases, id)
  redis.call('ZREM', waits, id)
  redis.call('DEL', rq_job)
  local ttl_s = redis.call('HGET', job, 'ttl_s')
  redis.call('EXPIRE', job, ttl_s)
  redis.call('EXPIRE', log, ttl_s)
end
