-- Write values whatever is there; all but what stood there already is logged as changed: near
-- copies elsewhere may outlive a value that the server evicted.
-- KEYS: log, value, lease, value, lease, …
-- ARGV: log length, value, milliseconds (0 = no limit), value, …, entry, entry, …
local length, count = ARGV[1], (#KEYS - 1) / 2
for i = 1, count do
  local key, lease = KEYS[2 * i], KEYS[2 * i + 1]
  local value, life = ARGV[2 * i], ARGV[2 * i + 1]
  local before = redis.pcall('GETRANGE', key, 0, 31)
  if life == '0' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', life)
  end
  redis.call('DEL', lease)
  if before ~= value:sub(1, 32) then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', length, '*', 'e', ARGV[1 + 2 * count + i])
  end
end
return 1
