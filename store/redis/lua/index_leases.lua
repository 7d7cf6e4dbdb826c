-- Write to the index when leases lapse. The index is a hint; the turns' own fields decide.
-- uses: clock
-- KEYS[1] the bucket. ARGV: ms from now, 'NX' to keep existing entries or 'CH' to replace them, then members.
-- Returns the number of entries that were added or changed.
local until_ms, pairs_of = clock_ms() + tonumber(ARGV[1]), {}
for at = 3, #ARGV do
  pairs_of[#pairs_of + 1] = until_ms
  pairs_of[#pairs_of + 1] = ARGV[at]
end
-- A command that frees memory goes first: then a full Redis allows the rest of the script.
redis.call('ZREM', KEYS[1], '')
return redis.call('ZADD', KEYS[1], ARGV[2], unpack(pairs_of))
