-- Read a board.
-- KEYS: board, its ends   Returns name, value, … of what has not ended.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local names = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf')
local found = {}
for i = 1, #names do
  local value = redis.call('HMGET', KEYS[1], names[i])[1]
  if value then
    found[#found + 1] = names[i]
    found[#found + 1] = value
  end
end
return found
