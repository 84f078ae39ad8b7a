-- Write values over whatever is there, and end their leases; nothing at all once it is too late:
-- whoever asked has given up, and others may have written since.
-- KEYS: value, lease, value, lease, …   ARGV: deadline (milliseconds), value, milliseconds (0 = no limit), …
-- Returns 1, or 0 for too late.
local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 > tonumber(ARGV[1]) then return 0 end
for i = 1, #KEYS / 2 do
  local value, life = ARGV[2 * i], ARGV[2 * i + 1]
  if life == '0' then
    redis.call('SET', KEYS[2 * i - 1], value)
  else
    redis.call('SET', KEYS[2 * i - 1], value, 'PX', life)
  end
  redis.call('DEL', KEYS[2 * i])
end
return 1
