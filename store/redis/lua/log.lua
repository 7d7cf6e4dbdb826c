-- Read a turn's log.
-- uses: turn_fields
-- KEYS[1] the user's prefix. ARGV: turn, after, approximate maximum of bytes.
-- Returns encoded entries that hold events after seq `after`, in order.
local after, room = tonumber(ARGV[2]), tonumber(ARGV[3])
local epochs = kept_of(KEYS[1] .. 'turn:' .. ARGV[1], 'epochs')[1]
if not epochs then
  return {}
end
-- The epoch of event `after` + 1 is the last one whose base is at most `after`.
local epoch = '0'
for name, base in string.gmatch(epochs, '(%d+):(%d+);') do
  if tonumber(base) <= after then
    epoch = name
  end
end
local from = '(' .. epoch .. '-' .. ARGV[2]
local entries = {}
while room > 0 do
  local read = redis.pcall('XRANGE', KEYS[1] .. 'log:' .. ARGV[1], from, '+', 'COUNT', 50)
  if #read == 0 then
    break
  end
  for _, one in ipairs(read) do
    entries[#entries + 1] = one[2][4]
    room = room - #one[2][4]
    from = '(' .. one[1]
    if room <= 0 then
      break
    end
  end
end
return entries
