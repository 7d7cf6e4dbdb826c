-- Record that an ephemeral value belongs to the user, for as long as the value exists.
-- uses: clock
-- KEYS[1] the list of the user's ephemeral values. ARGV: the value's key, ms.
local key, now, ms = KEYS[1], clock_ms(), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
redis.call('ZADD', key, now + ms, ARGV[1])
redis.call('PEXPIRE', key, math.max(ms, redis.call('PTTL', key)))
return 1
