-- Set the expiry time of some leases in the index. The index is a hint; the turns' own fields decide.
-- uses: clock
-- KEYS[1] the bucket. ARGV: the ms until they expire, 'NX' to keep existing entries or 'CH' to replace them, then
-- the members that name the turns.
-- Returns the number of entries that were added or changed.
local until_ms, scored_members = clock_ms() + tonumber(ARGV[1]), {}
for i = 3, #ARGV do
  scored_members[#scored_members + 1] = until_ms
  scored_members[#scored_members + 1] = ARGV[i]
end
-- This ZREM removes nothing, but a full Redis allows it, and then allows the rest of the script too.
redis.call('ZREM', KEYS[1], '')
return redis.call('ZADD', KEYS[1], ARGV[2], unpack(scored_members))
