-- List the expired leases in one bucket of the lease index.
-- uses: clock
-- KEYS[1] the bucket. ARGV: maximum number.
-- Returns the bucket's members that name their turns.
-- This ZREM removes nothing, but it fails on a read-only replica, where no turn could be claimed either.
redis.call('ZREM', KEYS[1], '')
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', clock_ms(), 'LIMIT', 0, ARGV[1])
