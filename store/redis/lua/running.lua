-- How some turns stand.
-- uses: turn_fields
-- KEYS[1] the user's prefix. ARGV: turns.
-- Returns the status of each, '' where there is none.
local stands = {}
for at, turn in ipairs(ARGV) do
  stands[at] = kept_of(KEYS[1] .. 'turn:' .. turn, 'status')[1] or ''
end
return stands
