-- List the users of one bucket of the index whose outboxes were filled some time ago, oldest first.
-- uses: clock
-- KEYS[1] the bucket. ARGV: µs ago, maximum number.
-- Returns users and their numbers in the index.
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text_of(clock_us() - tonumber(ARGV[1])), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
