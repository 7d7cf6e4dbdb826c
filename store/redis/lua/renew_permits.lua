-- Renew holders' permits of a key, even above the maximum; a permit that has expired or was lost is held again.
-- uses: clock
-- KEYS[1] the key's permits. ARGV: ms, then holders.
local key, ms = KEYS[1], tonumber(ARGV[1])
local until_ms = clock_ms() + ms
for i = 2, #ARGV do
  redis.call('ZADD', key, until_ms, ARGV[i])
end
redis.call('PEXPIRE', key, math.max(ms, redis.call('PTTL', key)))
return 1
