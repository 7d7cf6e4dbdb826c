-- Return the status of some turns.
-- uses: turn_fields
-- KEYS[1] the user's prefix. ARGV: turns.
-- Returns the status of each turn, '' if it doesn't exist.
local stands = {}
for at, turn in ipairs(ARGV) do
  stands[at] = kept_of(KEYS[1] .. 'turn:' .. turn, 'status')[1] or ''
end
return stands
