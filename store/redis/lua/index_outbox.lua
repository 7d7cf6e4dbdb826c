-- Note in the index that a user's outbox is about to be filled. The number differs from the one that the index had.
-- uses: clock
-- KEYS[1] the bucket. ARGV: the user.
-- This ZREM removes nothing, but a full Redis allows it, and then allows the rest of the script too.
redis.call('ZREM', KEYS[1], '')
local last = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
redis.call('ZADD', KEYS[1], text_of(math.max(clock_us(), last + 1)), ARGV[1])
return 1
