-- A worker ends the attempt it holds.
-- KEYS  1 record  2 event log  3 leases  6 queue deadlines  7 RQ's job  8 fair order  9 prefix of minutes
-- ARGV  1 job id  2 channel  3 attempt  4 final state  5 now, ms  6 outcome, JSON  7 error, JSON or ''
-- Returns 1, or 0 when the job is not this attempt's (any more): then nothing was written.
local record = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if record[1] ~= 'in_progress' or record[2] ~= ARGV[3] then return 0 end
finish(KEYS, ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6], ARGV[7])
return 1
