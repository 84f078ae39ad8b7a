-- Write loaded values whose lease is still held; the first valid writer wins.
-- KEYS: value, lease, value, lease, …
-- ARGV: token, milliseconds (0 = no limit), format, kind, size, stamp, value, value, …
-- Returns per key: 1 written, 0 the lease was lost, or the winner's bytes.
local token, life = ARGV[1], ARGV[2]
local format, kind, size, stamp = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local answers = {}
for i = 1, #KEYS / 2 do
  local key, lease = KEYS[2 * i - 1], KEYS[2 * i]
  local held = redis.call('GET', lease) == token
  if held then redis.call('DEL', lease) end
  local head = redis.pcall('GETRANGE', key, 0, 23)
  if type(head) == 'string' and #head == 24 and head:sub(1, 3) == format and head:byte(4) >= kind
      and head:sub(5, 8) == size and head:sub(17, 24) == stamp then
    answers[i] = redis.call('GET', key)
  elseif held then
    if life == '0' then
      redis.call('SET', key, ARGV[6 + i])
    else
      redis.call('SET', key, ARGV[6 + i], 'PX', life)
    end
    answers[i] = 1
  else
    answers[i] = 0
  end
end
return answers
