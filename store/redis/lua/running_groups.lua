-- Return the groups of the user's turns that were accepted before a turn and have no ending.
-- uses: clock, turn_fields, outbox, conversation, limits
-- KEYS[1] the user's prefix. ARGV: turn, number of groups that may run at once.
-- Returns a list of ids for each group, no groups if there are fewer than that number.
return running_groups(KEYS[1], ARGV[1], tonumber(ARGV[2]))
