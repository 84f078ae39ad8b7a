-- Make a token the epoch of a group, which lives at least so long, and never shorter than before.
-- KEYS: group   ARGV: token, milliseconds (0 = for ever)
local left = redis.call('PTTL', KEYS[1])
if ARGV[2] == '0' or left == -1 then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', math.max(left, tonumber(ARGV[2])))
end
return 1
