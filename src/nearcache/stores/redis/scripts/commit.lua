-- Write each value whose key still holds what is expected: a version, or a token in its lease.
-- KEYS: value, lease, value, lease, …
-- ARGV: token, milliseconds (0 = put no token), value, milliseconds (0 = no limit), expected, …
-- Returns per key: 1 written, or what is to be expected now ('' = nothing is there).
local token, token_life = ARGV[1], ARGV[2]
local answers = {}
for i = 1, #KEYS / 2 do
  local key, lease = KEYS[2 * i - 1], KEYS[2 * i]
  local value, life, expected = ARGV[3 * i], ARGV[3 * i + 1], ARGV[3 * i + 2]
  local head, version = redis.pcall('GETRANGE', key, 0, 23), ''
  if type(head) == 'string' and #head == 24 then version = head:sub(17, 24) end
  local held = redis.pcall('GET', lease)
  if type(held) ~= 'string' or #held ~= 16 then held = '' end
  if expected ~= '' and (expected == version or expected == held) then
    if life == '0' then
      redis.call('SET', key, value)
    else
      redis.call('SET', key, value, 'PX', life)
    end
    redis.call('DEL', lease)
    answers[i] = 1
  elseif version ~= '' then
    answers[i] = version
  elseif held ~= '' or token_life == '0' then
    answers[i] = held
  else
    redis.call('SET', lease, token, 'PX', token_life)
    answers[i] = token
  end
end
return answers
