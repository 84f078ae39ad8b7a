-- Claim the right to load each key, unless a value came that the caller has not seen.
-- KEYS: value, lease, value, lease, …   ARGV: token, milliseconds, format, version seen, …
-- Returns per key: 1 taken, 0 held by another, or the value that came meanwhile.
local token, life, format = ARGV[1], ARGV[2], ARGV[3]
local answers = {}
for i = 1, #KEYS / 2 do
  local key, lease = KEYS[2 * i - 1], KEYS[2 * i]
  local head = redis.pcall('GETRANGE', key, 0, 23)
  if type(head) == 'string' and #head == 24 and head:sub(1, 3) == format
      and head:sub(17, 24) ~= ARGV[3 + i] then
    answers[i] = redis.call('GET', key)
  else
    local held = redis.pcall('GET', lease)
    if type(held) == 'string' and #held == 16 then
      answers[i] = 0
    else  -- free, or garbage under its name
      redis.call('SET', lease, token, 'PX', life)
      answers[i] = 1
    end
  end
end
return answers
