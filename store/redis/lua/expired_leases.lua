-- List the members of a bucket of the index whose lease has expired.
-- uses: clock
-- KEYS[1] the bucket. ARGV: maximum number.
-- Returns members.
-- This write fails if Redis is read-only, as a replica is: then no turn can be claimed either.
redis.call('ZREM', KEYS[1], '')
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', clock_ms(), 'LIMIT', 0, ARGV[1])
