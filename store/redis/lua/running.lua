-- Return the status of some turns.
-- uses: absent, turn_fields
-- KEYS[1] the user's prefix. ARGV: turns.
-- Returns the status of each turn, '' if it doesn't exist.
local statuses = {}
for i, turn in ipairs(ARGV) do
  statuses[i] = get_fields(KEYS[1] .. 'turn:' .. turn, 'status') or ''
  if statuses[i] == '' then
    check_master()
  end
end
return statuses
