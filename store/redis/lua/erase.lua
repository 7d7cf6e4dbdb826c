-- Delete the user's keys that one step of a SCAN through all keys finds.
-- uses: absent
-- KEYS[1] the user's prefix. ARGV: the cursor, the pattern of the user's keys, about how many keys the step passes.
-- Returns {the next cursor, '0' at the end; number of keys that were deleted}.
check_master()
local cursor, keys = unpack(redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3]))
for _, key in ipairs(keys) do
  redis.call('UNLINK', key)
end
return {cursor, #keys}
