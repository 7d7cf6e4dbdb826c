-- How long leases of turns of one user last.
-- uses: clock, turn_fields
-- KEYS[1] the user's prefix. ARGV: turns.
-- Returns for each ms from now, 0 where it has lapsed, -1 where nothing runs.
local now, answers = clock_ms(), {}
for at = 1, #ARGV do
  local kept = kept_of(KEYS[1] .. 'turn:' .. ARGV[at], 'status', 'lease')
  answers[at] = kept[1] == 'running' and math.max(0, tonumber(kept[2]) - now) or -1
end
return answers
