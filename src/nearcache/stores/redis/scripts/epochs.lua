-- Read the epochs of groups; make those that are absent, prolong those that end too soon.
-- KEYS: group, …   ARGV: least milliseconds (0 = for ever), milliseconds to give, new token, …
local least, life = tonumber(ARGV[1]), ARGV[2]
local answers = {}
for i = 1, #KEYS do
  local key = KEYS[i]
  local token = redis.pcall('GET', key)
  if type(token) ~= 'string' or #token ~= 16 then  -- garbage is no epoch
    token = ARGV[2 + i]
    if least == 0 then
      redis.call('SET', key, token)
    else
      redis.call('SET', key, token, 'PX', life)
    end
  else
    local left = redis.call('PTTL', key)
    if left >= 0 and least == 0 then
      redis.call('PERSIST', key)
    elseif left >= 0 and left < least then
      redis.call('PEXPIRE', key, life)
    end
  end
  answers[i] = token
end
return answers
