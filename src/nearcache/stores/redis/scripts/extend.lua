-- Prolong (milliseconds > 0) or give back (0) the leases that still carry the token.
-- KEYS: lease, …   ARGV: token, milliseconds
for i = 1, #KEYS do
  if redis.pcall('GET', KEYS[i]) == ARGV[1] then
    if ARGV[2] == '0' then
      redis.call('DEL', KEYS[i])
    else
      redis.call('PEXPIRE', KEYS[i], ARGV[2])
    end
  end
end
return 1
