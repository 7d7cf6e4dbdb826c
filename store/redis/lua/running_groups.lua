-- The slots that the user's turns before one of them take.
-- uses: clock, turn_fields, conversation, limits
-- KEYS[1] the user's prefix. ARGV: turn, how many may be taken before somebody has to wait.
-- Returns lists of ids.
return slots_before(KEYS[1], ARGV[1], tonumber(ARGV[2]))
