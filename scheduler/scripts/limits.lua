-- A user's last minute: the rule of scheduler/limits.py, line for line. A library, prepended to the scripts that need it.
-- `minute` is jobs.keys.minute(user): hash, `rSECOND` → requests and `tSECOND` → tokens taken in that second of unix time.

local limits = {WINDOW_S = 60}

-- How long until `need` of what was taken in the seconds of `taken` no longer counts. Seconds.
local function wait_for(taken, now_s, need)
  local seconds = {}
  if need <= 0 then return 0 end
  for second in pairs(taken) do seconds[#seconds + 1] = second end
  table.sort(seconds)
  for _, second in ipairs(seconds) do
    need = need - taken[second]
    if need <= 0 then return second + limits.WINDOW_S + 1 - now_s end
  end
  return 0
end

-- Takes one request and so many tokens from what is left of the user's last minute, if both are left; 0 is no limit.
-- Returns 'ok', 'requests' or 'tokens' (which are used up; nothing was taken then), what is left of each, in how many
-- seconds all of it is left again, and in how many it is worth asking again (0: never).
function limits.take(minute, now_s, most_requests, most_tokens, tokens)
  local requests, spent = {}, {}
  local request_sum, token_sum = 0, 0
  local fields = redis.call('HGETALL', minute)
  for i = 1, #fields, 2 do
    local second, count = tonumber(string.sub(fields[i], 2)), tonumber(fields[i + 1])
    if second < now_s - limits.WINDOW_S then
      redis.call('HDEL', minute, fields[i])
    elseif string.sub(fields[i], 1, 1) == 'r' then
      requests[second], request_sum = count, request_sum + count
    else
      spent[second], token_sum = count, token_sum + count
    end
  end
  local verdict, wait_s = 'ok', 0
  if most_requests > 0 and request_sum + 1 > most_requests then
    verdict, wait_s = 'requests', wait_for(requests, now_s, request_sum + 1 - most_requests)
  end
  if most_tokens > 0 and token_sum + tokens > most_tokens then
    local longer_s = wait_for(spent, now_s, token_sum + tokens - most_tokens)
    if verdict == 'ok' or longer_s > wait_s or longer_s == 0 then verdict, wait_s = 'tokens', longer_s end
  end
  if verdict == 'ok' then
    request_sum, requests[now_s] = request_sum + 1, (requests[now_s] or 0) + 1
    redis.call('HINCRBY', minute, 'r' .. now_s, 1)
    if tokens > 0 then
      token_sum, spent[now_s] = token_sum + tokens, (spent[now_s] or 0) + tokens
      redis.call('HINCRBY', minute, 't' .. now_s, tokens)
    end
    redis.call('EXPIRE', minute, 2 * limits.WINDOW_S)
  end
  return {
    verdict, most_requests - request_sum, most_tokens - token_sum,
    wait_for(requests, now_s, request_sum), wait_for(spent, now_s, token_sum), wait_s,
  }
end

-- Gives tokens back that were taken in a second, if it still counts for anything.
function limits.give_back(minute, second, tokens)
  if tokens > 0 and redis.call('HEXISTS', minute, 't' .. second) == 1 then
    redis.call('HINCRBY', minute, 't' .. second, -tokens)
  end
end
