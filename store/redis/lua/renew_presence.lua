-- Record that an instance has connections attached to some turns of one user.
-- uses: clock
-- KEYS[1] the user's prefix. ARGV: instance, ms, then turns.
local now, ms = clock_ms(), tonumber(ARGV[2])
for i = 3, #ARGV do
  local key = KEYS[1] .. 'attached:' .. ARGV[i]
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  redis.call('ZADD', key, now + ms, ARGV[1])
  redis.call('PEXPIRE', key, math.max(ms, redis.call('PTTL', key)))
end
return 1
