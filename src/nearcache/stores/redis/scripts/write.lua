-- Write values whatever is there; all but what stood there already is logged as changed: near
-- copies elsewhere may outlive a value that the server evicted.
-- KEYS: value, lease, value, lease, …, and the log, unless its length is 0: then nothing is logged
-- ARGV: log length, value, milliseconds (0 = no limit), entry, value, …
-- Returns per key: 1 changed, 0 stood there already.
local length = ARGV[1]
local answers = {}
for i = 1, math.floor(#KEYS / 2) do
  local key, lease = KEYS[2 * i - 1], KEYS[2 * i]
  local value, life, entry = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  local before = redis.pcall('GETRANGE', key, 0, 31)
  if life == '0' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', life)
  end
  redis.call('DEL', lease)
  answers[i] = before ~= value:sub(1, 32) and 1 or 0
  if answers[i] == 1 and length ~= '0' then
    redis.call('XADD', KEYS[#KEYS], 'MAXLEN', '~', length, '*', 'e', entry)
  end
end
return answers
