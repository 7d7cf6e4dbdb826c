-- Holders keep their places of a key, however many those are; what had lapsed or was lost is there again.
-- uses: clock
-- KEYS[1] the key's places. ARGV: ms, then holders.
local key, ms = KEYS[1], tonumber(ARGV[1])
local until_ms = clock_ms() + ms
for at = 2, #ARGV do
  redis.call('ZADD', key, until_ms, ARGV[at])
end
redis.call('PEXPIRE', key, math.max(ms, redis.call('PTTL', key)))
return 1
