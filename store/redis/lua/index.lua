-- Note in the index when leases lapse. The index is a hint: the turns themselves know.
-- uses: clock
-- KEYS[1] the bucket. ARGV: ms from now, 'NX' to leave what is noted or 'CH' to replace it, then members.
-- Returns how many were noted.
local until_ms, pairs_of = clock_ms() + tonumber(ARGV[1]), {}
for at = 3, #ARGV do
  pairs_of[#pairs_of + 1] = until_ms
  pairs_of[#pairs_of + 1] = ARGV[at]
end
-- A command that frees memory goes first: a full Redis lets the rest through.
redis.call('ZREM', KEYS[1], '')
return redis.call('ZADD', KEYS[1], ARGV[2], unpack(pairs_of))
