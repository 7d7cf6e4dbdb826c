-- Return what waits in the user's outbox.
-- KEYS[1] the user's prefix.
-- Returns {number of entries, the oldest change or false, number of entries that were set aside}. The number of entries
-- includes the messages that `mark_earlier` has yet to add to the outbox, but only those of the first 100 conversations.
local p = KEYS[1]
local oldest, entries = redis.call('ZRANGE', p .. 'outbox', 0, 0, 'WITHSCORES'), redis.call('ZCARD', p .. 'outbox')
local unmarked = redis.call('ZRANGE', p .. 'unmarked', 0, 99, 'WITHSCORES')
for i = 1, #unmarked, 2 do
  local list = p .. 'messages:' .. string.sub(unmarked[i], 18)
  entries = entries + 1 + redis.call('ZCOUNT', list, '(' .. unmarked[i + 1], '+inf')
end
return {entries, oldest[2] or false, redis.call('HLEN', p .. 'aside')}
