-- Return the remaining time of the leases of some turns of one user.
-- uses: clock, turn_fields
-- KEYS[1] the user's prefix. ARGV: turns.
-- Returns for each turn the ms until its lease lapses, 0 if it has lapsed, -1 if the turn doesn't run.
local now, answers = clock_ms(), {}
for at = 1, #ARGV do
  local kept = kept_of(KEYS[1] .. 'turn:' .. ARGV[at], 'status', 'lease')
  answers[at] = kept[1] == 'running' and math.max(0, tonumber(kept[2]) - now) or -1
end
return answers
