-- Say what a commit will have to find: a value's version, or the token that stands for its absence.
-- KEYS: value, lease, value, lease, …   ARGV: token, milliseconds
local token, life = ARGV[1], ARGV[2]
local answers = {}
for i = 1, #KEYS / 2 do
  local key, lease = KEYS[2 * i - 1], KEYS[2 * i]
  local head = redis.pcall('GETRANGE', key, 0, 23)
  if type(head) == 'string' and #head == 24 then
    answers[i] = head:sub(17, 24)
  else
    local held = redis.pcall('GET', lease)
    if type(held) == 'string' and #held == 16 then
      answers[i] = held
    else
      redis.call('SET', lease, token, 'PX', life)
      answers[i] = token
    end
  end
end
return answers
