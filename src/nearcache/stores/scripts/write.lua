-- Write values whatever is there; what stood there before and differs is logged as changed.
-- KEYS: log, value, lease, value, lease, …
-- ARGV: log length, milliseconds (0 = no limit), value, entry, value, entry, …
local length, life = ARGV[1], ARGV[2]
for i = 1, (#KEYS - 1) / 2 do
  local key, lease, value = KEYS[2 * i], KEYS[2 * i + 1], ARGV[2 * i + 1]
  local before = redis.pcall('GETRANGE', key, 0, 31)
  if life == '0' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', life)
  end
  redis.call('DEL', lease)
  if before ~= '' and before ~= value:sub(1, 32) then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', length, '*', 'e', ARGV[2 * i + 2])
  end
end
return 1
