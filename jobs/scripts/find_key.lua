-- Look up an API key and its user's account, by as many reads whether there is such a key or not.
-- KEYS  1 the key's record
-- ARGV  1 what the accounts' keys begin with
-- Returns both records, each a list of fields and values; an empty one for what is not there.
local key = redis.call('HGETALL', KEYS[1])
local user = ''
for at = 1, #key, 2 do
  if key[at] == 'user' then user = key[at + 1] end
end
return {key, redis.call('HGETALL', ARGV[1] .. user)}
