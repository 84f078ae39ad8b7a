-- Put what one reporter says on a board, until it ends; take down what has ended.
-- KEYS: board, its ends   ARGV: name, value, milliseconds to stay (0: take it down)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local life = tonumber(ARGV[3])
redis.call('ZADD', KEYS[2], string.format('%.0f', now + life), ARGV[1])
if life > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  for i = 1, 2 do
    if redis.call('PTTL', KEYS[i]) < life then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
  end
end
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
for i = 1, #over do redis.call('HDEL', KEYS[1], over[i]) end
if #over > 0 then redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now)) end
return 1
