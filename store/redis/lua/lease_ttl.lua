-- Return the remaining time of the leases of some turns of one user.
-- uses: clock, turn_fields
-- KEYS[1] the user's prefix. ARGV: turns.
-- Returns for each turn the ms until its lease expires, 0 if it has expired, -1 if the turn doesn't run.
local now, ttls = clock_ms(), {}
for i = 1, #ARGV do
  local status, lease = get_fields(KEYS[1] .. 'turn:' .. ARGV[i], 'status', 'lease')
  ttls[i] = status == 'running' and math.max(0, tonumber(lease) - now) or -1
end
return ttls
