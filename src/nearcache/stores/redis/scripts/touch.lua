-- Prolong values that have a limited life, unless nearly all of it is left: whoever tracks a key is
-- told of every PEXPIRE.
-- KEYS: value, …   ARGV: milliseconds to live at least, milliseconds left that will do
for i = 1, #KEYS do
  local left = redis.call('PTTL', KEYS[i])
  if left >= 0 and left < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[i], ARGV[1]) end
end
return 1
