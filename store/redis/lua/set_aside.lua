-- Move entries that the archive refuses out of the user's outbox, unless they have changed since they were read.
-- What isn't the number of a change at all is moved too.
-- KEYS[1] the user's prefix. ARGV: member, number and reason of each entry.
-- Returns the number of entries that were moved.
local p, moved = KEYS[1], 0
for i = 1, #ARGV, 3 do
  local change = tonumber(redis.call('ZSCORE', p .. 'outbox', ARGV[i]) or 0)
  if change == tonumber(ARGV[i + 1]) or not (change and change % 1 == 0 and math.abs(change) < 2 ^ 53) then
    redis.call('ZREM', p .. 'outbox', ARGV[i])
    redis.call('HSET', p .. 'aside', ARGV[i], ARGV[i + 2])
    moved = moved + 1
  end
end
return moved
