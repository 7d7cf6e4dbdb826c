-- The members of a bucket of the index whose time is over.
-- uses: clock
-- KEYS[1] the bucket. ARGV: at most how many.
-- Returns members.
-- Where nothing can be written, as at a replica, nothing can be taken either: this says so.
redis.call('ZREM', KEYS[1], '')
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', clock_ms(), 'LIMIT', 0, ARGV[1])
