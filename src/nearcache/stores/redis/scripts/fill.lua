-- Write loaded values whose lease is still held; the first valid writer wins.
-- KEYS: value, lease, value, lease, …
-- ARGV: token, format, kind, size ('' = any), stamp, value, milliseconds (0 = no limit), value, …
-- Returns per key: 1 written, 0 the lease was lost, or the winner's bytes.
local token = ARGV[1]
local format, kind, size, stamp = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local bits = kind - kind % 64  -- SIGNED and SEALED, which say nothing of precision
local answers = {}
for i = 1, #KEYS / 2 do
  local key, lease = KEYS[2 * i - 1], KEYS[2 * i]
  local held = redis.pcall('GET', lease) == token
  if held then redis.call('DEL', lease) end
  local head = redis.pcall('GETRANGE', key, 0, 23)
  if type(head) == 'string' and #head == 24 and head:sub(1, 3) == format
      and bit.band(head:byte(4), bits) == bits and head:byte(4) % 64 >= kind % 64
      and (size == '' or head:sub(5, 8) == size) and head:sub(17, 24) == stamp then
    answers[i] = redis.call('GET', key)
  elseif held then
    local value, life = ARGV[4 + 2 * i], ARGV[5 + 2 * i]
    if life == '0' then
      redis.call('SET', key, value)
    else
      redis.call('SET', key, value, 'PX', life)
    end
    answers[i] = 1
  else
    answers[i] = 0
  end
end
return answers
