-- Accept a job: its record, its first event, its place in the fair order and in its owner's list, all or nothing.
-- KEYS  1 record  2 event log  6 queue deadlines  8 fair order  9 prefix of minutes  10 the owner's list
-- ARGV  1 job id  2 channel  3 lane  4 user's key  5 queue deadline, ms  6 created, ms  7 list ttl, s
--       8 most jobs that may wait  9 of one user  10 most jobs of the user that may run  11 requests and 12 tokens that
--       the user may ask for a minute  13 tokens this job may need; 0 is no limit, of 9 to 12
--       14… the record, field by field
-- Returns the verdict (scheduler.limits.Verdict; unless it is 'ok' nothing was written) and then, if it was looked at, of
-- the user's minute what limits.take returns. Sent again after a broken connection: it was accepted.
if redis.call('EXISTS', KEYS[1]) == 1 then return {'ok'} end
if fair.waiting(KEYS[8]) >= tonumber(ARGV[8]) then return {'queue_full'} end
local most_queued = tonumber(ARGV[9])
if most_queued > 0 and fair.waiting_of(KEYS[8], ARGV[4]) >= most_queued then return {'user_queue_full'} end
local admission = {'ok'}
if ARGV[11] ~= '0' or ARGV[12] ~= '0' then
  local second = math.floor(tonumber(ARGV[6]) / 1000)
  admission = limits.take(KEYS[9] .. ARGV[4], second, tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13]))
  if admission[1] ~= 'ok' then return admission end
end
fair.limit_running(KEYS[8], ARGV[4], tonumber(ARGV[10]))
redis.call('HSET', KEYS[1], unpack(ARGV, 14))
append(KEYS[2], ARGV[2], 'status', '{"status":"queued"}')
redis.call('ZADD', KEYS[6], ARGV[5], ARGV[1])
redis.call('ZADD', KEYS[10], ARGV[6], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[10], '-inf', ARGV[6] - 1000 * ARGV[7])
redis.call('ZREMRANGEBYRANK', KEYS[10], 0, -100001) -- the newest 100,000 are listed
-- For one that comes two go whose records have expired: the list is about as long as there are jobs to read.
local records = string.sub(KEYS[1], 1, -1 - #ARGV[1])
for _, id in ipairs(redis.call('ZRANGE', KEYS[10], 0, 1)) do
  if redis.call('EXISTS', records .. id) == 0 then redis.call('ZREM', KEYS[10], id) end
end
redis.call('EXPIRE', KEYS[10], ARGV[7])
fair.join(KEYS[8], ARGV[3], ARGV[4], ARGV[1], false)
return admission
