-- Return the running slots that the user's turns before a turn take.
-- uses: clock, turn_fields, conversation, limits
-- KEYS[1] the user's prefix. ARGV: turn, number of slots that may be taken before a turn has to wait.
-- Returns a list of ids for each slot.
return slots_before(KEYS[1], ARGV[1], tonumber(ARGV[2]))
