-- Accept a job: its record, its first event, its place in the fair order and in its owner's list, all or nothing.
-- KEYS  1 record  2 event log  6 queue deadlines  8 fair order  9 the owner's list
-- ARGV  1 job id  2 channel  3 lane  4 user's key  5 queue deadline, ms  6 created, ms  7 list ttl, s
--       8 most jobs that may wait  9… the record, field by field
-- Returns 1; 0 when so many wait that no more are taken: then nothing was written.
-- Sent again after a broken connection: it was accepted.
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
local waiting = tonumber(redis.call('HGET', KEYS[8] .. ':state', 'waiting') or '0')
if waiting >= tonumber(ARGV[8]) then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 9))
append(KEYS[2], ARGV[2], 'status', '{"status":"queued"}')
redis.call('ZADD', KEYS[6], ARGV[5], ARGV[1])
redis.call('ZADD', KEYS[9], ARGV[6], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[9], '-inf', ARGV[6] - 1000 * ARGV[7])
redis.call('ZREMRANGEBYRANK', KEYS[9], 0, -100001) -- the newest 100,000 are listed
redis.call('EXPIRE', KEYS[9], ARGV[7])
fair.join(KEYS[8], ARGV[3], ARGV[4], ARGV[1], false)
return 1
