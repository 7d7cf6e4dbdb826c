-- Remove users from the index, if their numbers there are still the same.
-- KEYS[1] the bucket. ARGV: user and number of each.
-- Returns the number of users that were removed.
local removed = 0
for i = 1, #ARGV, 2 do
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or 0) == tonumber(ARGV[i + 1]) then
    removed = removed + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return removed
