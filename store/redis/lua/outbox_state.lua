-- Return what waits in the user's outbox.
-- KEYS[1] the user's prefix.
-- Returns {number of entries, the oldest change or false, number of entries that were set aside}.
local oldest = redis.call('ZRANGE', KEYS[1] .. 'outbox', 0, 0, 'WITHSCORES')
return {redis.call('ZCARD', KEYS[1] .. 'outbox'), oldest[2] or false, redis.call('HLEN', KEYS[1] .. 'aside')}
