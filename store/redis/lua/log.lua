-- Read a turn's log.
-- uses: turn_fields
-- KEYS[1] the user's prefix. ARGV: turn, after, approximate maximum number of bytes.
-- Returns encoded entries that hold events after seq `after`, in order.
local after, bytes_left = tonumber(ARGV[2]), tonumber(ARGV[3])
local epochs = get_fields(KEYS[1] .. 'turn:' .. ARGV[1], 'epochs')
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
while bytes_left > 0 do
  local page = redis.pcall('XRANGE', KEYS[1] .. 'log:' .. ARGV[1], from, '+', 'COUNT', 50)
  if #page == 0 then
    break
  end
  for _, item in ipairs(page) do
    local id, entry = item[1], item[2][4]
    entries[#entries + 1] = entry
    bytes_left = bytes_left - #entry
    from = '(' .. id
    if bytes_left <= 0 then
      break
    end
  end
end
return entries
