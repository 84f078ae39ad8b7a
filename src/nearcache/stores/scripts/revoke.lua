-- Delete values and leases at once: no load can commit in between.
-- KEYS: value, lease, value, lease, …   Returns how many values there were.
local found = 0
for i = 1, #KEYS, 2 do
  found = found + redis.call('DEL', KEYS[i])
  redis.call('DEL', KEYS[i + 1])
end
return found
