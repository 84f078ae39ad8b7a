-- Claim the right to load each key that has no valid value.
-- KEYS: value, lease, value, lease, …   ARGV: token, milliseconds, format, kind, size ('' = any), stamp
-- Returns per key: 1 taken, 0 held by another, or the value that came meanwhile.
local token, life = ARGV[1], ARGV[2]
local format, kind, size, stamp = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local bits = kind - kind % 64  -- SIGNED and SEALED, which say nothing of precision
local answers = {}
for i = 1, #KEYS / 2 do
  local key, lease = KEYS[2 * i - 1], KEYS[2 * i]
  local head = redis.pcall('GETRANGE', key, 0, 23)
  if type(head) == 'string' and #head == 24 and head:sub(1, 3) == format
      and bit.band(head:byte(4), bits) == bits and head:byte(4) % 64 >= kind % 64
      and (size == '' or head:sub(5, 8) == size) and head:sub(17, 24) == stamp then
    answers[i] = redis.call('GET', key)
  elseif redis.call('SET', lease, token, 'NX', 'PX', life) then
    answers[i] = 1
  elseif redis.call('TYPE', lease).ok ~= 'string' then  -- nobody's lease: garbage under its name
    redis.call('SET', lease, token, 'PX', life)
    answers[i] = 1
  else
    answers[i] = 0
  end
end
return answers
