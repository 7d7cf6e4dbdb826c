-- Acquire a permit of a key for a holder, or renew the one that it has.
-- uses: clock
-- KEYS[1] the key's permits. ARGV: maximum number of permits, ms, holder.
-- Returns 1, or 0 if no permit is free.
local key, now, ms = KEYS[1], clock_ms(), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
if redis.call('ZCARD', key) >= tonumber(ARGV[1]) and not redis.call('ZSCORE', key, ARGV[3]) then
  return 0
end
redis.call('ZADD', key, now + ms, ARGV[3])
redis.call('PEXPIRE', key, math.max(ms, redis.call('PTTL', key)))
return 1
