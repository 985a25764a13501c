-- The fair order: the rule of scheduler/fairness.py, line for line. A library, prepended to the scripts that need it.
-- `base` is jobs.keys.fair(engine); beneath it:
--   base:users:LANE       sorted set: users whose turn may come (jobs wait that they may run), by counter
--   base:line:LANE:USER   list: the ids of a user's waiting jobs, the oldest first
--   base:counter:LANE:USER  string: a user's counter, as %.17g (exact); expires a day after its last change
--   base:running:USER     set: ids of a user's jobs that were taken and have neither ended nor gone back
--   base:max_running      hash: how many of them there may be, by USER, for users who have a limit
--   base:state            hash: batch_due; waiting, the number of waiting jobs; and by lane last_left:LANE, the user whose
--                         turn has been over for the shortest time, with left_at:LANE, their counter then
--   base:wake             list: a token a waiting job, for slots that block
-- USER is a hash of the user's name, so that no name reaches another's keys. BATCH_SHARE is set before this text.

local fair = {PROMPT_COST = 1, COMPLETION_COST = 2, COUNTER_TTL_S = 86400}

local function exact(number) return string.format('%.17g', number) end
local function users_key(base, lane) return base .. ':users:' .. lane end
local function line_key(base, lane, user) return base .. ':line:' .. lane .. ':' .. user end
local function counter_key(base, lane, user) return base .. ':counter:' .. lane .. ':' .. user end
local function running_key(base, user) return base .. ':running:' .. user end
local function max_running_key(base) return base .. ':max_running' end
local function state_key(base) return base .. ':state' end
local function wake_key(base) return base .. ':wake' end

local function set_counter(base, lane, user, value)
  redis.call('SET', counter_key(base, lane, user), exact(value), 'EX', fair.COUNTER_TTL_S)
end

-- While the user's turn may come, the score is the counter: it does not expire.
local function counter(base, lane, user)
  return tonumber(redis.call('ZSCORE', users_key(base, lane), user)
    or redis.call('GET', counter_key(base, lane, user)) or '0')
end

-- It never falls, even when the counter of the user who left latest has expired and others, changed later, have not.
local function level(base, lane)
  local first = redis.call('ZRANGE', users_key(base, lane), 0, 0, 'WITHSCORES')
  if first[2] then return tonumber(first[2]) end
  local left = redis.call('HMGET', state_key(base), 'last_left:' .. lane, 'left_at:' .. lane)
  return left[1] and math.max(counter(base, lane, left[1]), tonumber(left[2])) or 0
end

-- Let a user's turn come when something of theirs waits that they may run, and only then. Who comes is lifted.
local function settle(base, user)
  local most = redis.call('HGET', max_running_key(base), user)
  local may_run = not most or redis.call('SCARD', running_key(base, user)) < tonumber(most)
  for _, lane in ipairs({'interactive', 'batch'}) do
    local may_come = may_run and redis.call('EXISTS', line_key(base, lane, user)) == 1
    local score = redis.call('ZSCORE', users_key(base, lane), user)
    if may_come and not score then
      local lifted = math.max(level(base, lane), counter(base, lane, user))
      set_counter(base, lane, user, lifted)
      redis.call('ZADD', users_key(base, lane), exact(lifted), user)
    elseif score and not may_come then
      redis.call('ZREM', users_key(base, lane), user)
      set_counter(base, lane, user, tonumber(score))
      redis.call('HSET', state_key(base), 'last_left:' .. lane, user, 'left_at:' .. lane, score)
    end
  end
end

-- How many jobs wait, of all users and of one.
function fair.waiting(base) return tonumber(redis.call('HGET', state_key(base), 'waiting') or '0') end
function fair.waiting_of(base, user)
  return redis.call('LLEN', line_key(base, 'interactive', user)) + redis.call('LLEN', line_key(base, 'batch', user))
end

-- Of a user of whom nothing waits or runs no limit is kept: their next request brings it again.
local function forget_limit(base, user)
  if fair.waiting_of(base, user) == 0 and redis.call('EXISTS', running_key(base, user)) == 0 then
    redis.call('HDEL', max_running_key(base), user)
  end
end

-- A job that was taken runs no more. One of its user's may run now that could not: a slot that sleeps is woken, for the
-- token of that job may have been spent in vain.
function fair.release(base, user, id)
  if redis.call('SREM', running_key(base, user), id) == 0 then return end
  if redis.call('HEXISTS', max_running_key(base), user) == 0 then return end
  settle(base, user)
  forget_limit(base, user)
  if redis.call('LLEN', wake_key(base)) < fair.waiting(base) then redis.call('LPUSH', wake_key(base), '') end
end

-- How many jobs the user may have running at a time from now on; 0 for no limit.
function fair.limit_running(base, user, most)
  local key = max_running_key(base)
  if (redis.call('HGET', key, user) or '0') == tostring(most) then return end
  if most == 0 then redis.call('HDEL', key, user) else redis.call('HSET', key, user, most) end
  settle(base, user)
end

-- A job begins to wait: a new one at the end of its user's line, one that lost its slot at the front.
function fair.join(base, lane, user, id, front)
  if front then redis.call('SREM', running_key(base, user), id) end
  redis.call(front and 'LPUSH' or 'RPUSH', line_key(base, lane, user), id)
  redis.call('HINCRBY', state_key(base), 'waiting', 1)
  redis.call('LPUSH', wake_key(base), '')
  settle(base, user)
end

-- A waiting job is withdrawn. Returns whether it was waiting. O(length of the user's own line).
function fair.leave(base, lane, user, id)
  if redis.call('LREM', line_key(base, lane, user), 1, id) == 0 then return false end
  redis.call('HINCRBY', state_key(base), 'waiting', -1)
  redis.call('LPOP', wake_key(base))
  settle(base, user)
  forget_limit(base, user)
  return true
end

-- A job of that lane, user and weight was served tokens of that cost.
function fair.charge(base, lane, user, weight, cost)
  local value = counter(base, lane, user) + cost / weight
  set_counter(base, lane, user, value)
  redis.call('ZADD', users_key(base, lane), 'XX', exact(value), user)
  if redis.call('EXISTS', users_key(base, 'interactive')) == 0 then return end
  if lane ~= 'batch' and redis.call('EXISTS', users_key(base, 'batch')) == 0 then return end
  local part = -1
  if lane ~= 'batch' then part = BATCH_SHARE / (1 - BATCH_SHARE) end
  local due = tonumber(redis.call('HGET', state_key(base), 'batch_due') or '0')
  redis.call('HSET', state_key(base), 'batch_due', exact(due + cost * part))
end

-- Takes the next job, and its token unless the caller was woken by one, and returns its id and user; nil when nothing waits
-- that may run. The caller charges its prompt.
function fair.take(base, woken)
  local lane = nil
  local batch = redis.call('EXISTS', users_key(base, 'batch')) == 1
  local due = tonumber(redis.call('HGET', state_key(base), 'batch_due') or '0')
  if redis.call('EXISTS', users_key(base, 'interactive')) == 1 and not (batch and due > 0) then
    lane = 'interactive'
  elseif batch then
    lane = 'batch'
  else
    return nil
  end
  -- Batch runs freely: what it ran up is forgiven, else its debt would grow without end.
  if redis.call('EXISTS', users_key(base, 'interactive')) == 0 then
    redis.call('HSET', state_key(base), 'batch_due', '0')
  end
  local user = redis.call('ZRANGE', users_key(base, lane), 0, 0)[1]
  local id = redis.call('LPOP', line_key(base, lane, user))
  redis.call('HINCRBY', state_key(base), 'waiting', -1)
  if not woken then redis.call('LPOP', wake_key(base)) end
  redis.call('SADD', running_key(base, user), id)
  settle(base, user)
  return id, user
end

-- Roughly how many jobs run before this one, and one more; false when it does not wait. See jobs/scripts/position.lua.
function fair.position(base, lane, user, id, most_users)
  local own = redis.call('LPOS', line_key(base, lane, user), id)
  if not own then return false end
  local users = redis.call('ZCARD', users_key(base, lane))
  local place = own + 1 + math.max(0, users - most_users) * (own + 1)
  for _, other in ipairs(redis.call('ZRANGE', users_key(base, lane), 0, most_users - 1)) do
    if other ~= user then
      place = place + math.min(own + 1, redis.call('LLEN', line_key(base, lane, other)))
    end
  end
  if lane == 'batch' then
    for _, other in ipairs(redis.call('ZRANGE', users_key(base, 'interactive'), 0, most_users - 1)) do
      place = place + redis.call('LLEN', line_key(base, 'interactive', other))
    end
  end
  return place
end
