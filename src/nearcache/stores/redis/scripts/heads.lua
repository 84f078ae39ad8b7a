-- Read the epochs of groups and the first 24 bytes of values.
-- KEYS: group, …, value, …   ARGV: number of groups   Returns per key its bytes, or nil.
local groups = tonumber(ARGV[1])
local answers = {}
for i = 1, #KEYS do
  local found
  if i <= groups then
    found = redis.pcall('GET', KEYS[i])
  else
    found = redis.pcall('GETRANGE', KEYS[i], 0, 23)
  end
  answers[i] = type(found) == 'string' and found ~= '' and found
end
return answers
