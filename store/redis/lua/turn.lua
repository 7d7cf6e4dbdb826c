-- Return a turn.
-- uses: clock, turn_fields
-- KEYS[1] the user's prefix. ARGV: turn, 1 to return its request too.
-- Returns {fields, whether its conversation exists, whether its lease has lapsed}; no fields if the turn isn't kept.
local turn = KEYS[1] .. 'turn:' .. ARGV[1]
local known = kept_of(turn, 'conversation', 'status', 'lease')
local there = known[1] and redis.call('EXISTS', KEYS[1] .. 'conversation:' .. known[1]) or 0
local lapsed = known[2] == 'running' and tonumber(known[3]) <= clock_ms()
return {turn_record(turn, ARGV[2] == '1'), there, lapsed and 1 or 0}
