-- Prepended to every script: the two ways in which a job's log grows, and its one way to a final state.

-- Append an event to a job's log and publish it with its id, so that who hears it knows where in the log it stands.
local function append(log, channel, event, data)
  local id = redis.call('XADD', log, '*', 'event', event, 'data', data)
  redis.call('PUBLISH', channel, id .. '\n' .. event .. '\n' .. data)
  return id
end

-- Give a job its final state. The caller has checked that it has none yet, and that it waits in no line.
-- outcome and err are JSON or ''. The prompt goes at once; everything else the job left when its ttl_s has passed.
local function finish(keys, id, channel, state, now_ms, outcome, err)
  local job, log, leases, waits, rq_job = keys[1], keys[2], keys[3], keys[6], keys[7]
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
