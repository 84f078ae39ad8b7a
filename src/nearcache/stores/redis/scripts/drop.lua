-- Delete keys that still hold exactly these bytes.   KEYS: value, …   ARGV: bytes, …
for i = 1, #KEYS do
  if redis.pcall('GET', KEYS[i]) == ARGV[i] then redis.call('DEL', KEYS[i]) end
end
return 1
