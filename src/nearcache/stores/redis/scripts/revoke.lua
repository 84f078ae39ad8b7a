-- Delete values and leases at once: no load can commit in between.
-- KEYS: value, lease, value, lease, …, or one value alone
-- ARGV, if any: per key the versions (8 bytes each) of which a value must have one to be deleted.
-- Returns how many values there were.
local found = 0
for i = 1, #KEYS, 2 do
  local versions = ARGV[(i + 1) / 2]
  if versions then
    local head = redis.pcall('GETRANGE', KEYS[i], 16, 23)
    for at = 1, #versions, 8 do
      if head == versions:sub(at, at + 7) then
        found = found + redis.call('DEL', KEYS[i])
        break
      end
    end
  else
    found = found + redis.call('DEL', KEYS[i])
  end
  if KEYS[i + 1] then redis.call('DEL', KEYS[i + 1]) end
end
return found
