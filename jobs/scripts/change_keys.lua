-- Change a user's API keys and settings in one step: make a key, revoke some, or both.
-- KEYS  1 the user's account  2 the ids of the user's keys  3 all accounts  4 the new key's record
-- ARGV  1 the user's key  2 what the keys' records begin with  3 what is revoked: an id, '*' for all but the new one, or ''
--       4 whether the account must be there: 1 or 0  5 now, ms  6 the new key's id, or '' for none  7 its salt  8 its digest
--       9… fields of the account to set, and their values
-- Returns the ids that were revoked; false when the account must be there and is not: then nothing was written.
-- Sent again after a broken connection it changes nothing more.
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[1]) == 0 then return false end
if #ARGV > 8 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 9))
  redis.call('HSETNX', KEYS[1], 'created_ms', ARGV[5])
  redis.call('SADD', KEYS[3], ARGV[1])
end
local revoked = {}
if ARGV[3] ~= '' then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    if id ~= ARGV[6] and (id == ARGV[3] or ARGV[3] == '*') then
      redis.call('DEL', ARGV[2] .. id)
      redis.call('ZREM', KEYS[2], id)
      revoked[#revoked + 1] = id
    end
  end
end
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[4], 'user', ARGV[1], 'salt', ARGV[7], 'digest', ARGV[8])
  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[6])
end
return revoked
