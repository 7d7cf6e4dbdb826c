-- Make an instance a turn's owner.
-- uses: clock, turn_fields, entries
-- KEYS[1] the user's prefix. ARGV: turn, owner, proposed epoch, ms of the lease, 1 to take a held turn too.
-- Returns {'taken', turn, whether its conversation exists}, {'held'} (also if it has ended) or {'not_found', what}.
local p = KEYS[1]
local turn = p .. 'turn:' .. ARGV[1]
local log = p .. 'log:' .. ARGV[1]
local kept = kept_of(turn, 'epoch', 'status', 'lease', 'owner', 'proposed', 'seq', 'epochs', 'conversation')
if not kept[1] then
  return {'not_found', 'turn'}
end
if kept[2] ~= 'running' then
  return {'held'}
end
-- Return whether the log exists completely, from its first event to `seq`, the end that the turn's fields name.
local function is_whole(seq)
  if seq == '0' then
    return true
  end
  local first = redis.pcall('XRANGE', log, '-', '+', 'COUNT', 1)
  local last = redis.pcall('XREVRANGE', log, '+', '-', 'COUNT', 1)
  return #first == 1 and first[1][2][2] == '1' and string.match(last[1][1], '%d+$') == seq
end

local now = clock_ms()
-- The same call is repeated, because its first reply was lost on the way.
local again = kept[4] == ARGV[2] and kept[5] == ARGV[3]
if not again and ARGV[5] ~= '1' and tonumber(kept[3]) > now then
  return {'held'}
end
redis.call('PEXPIRE', turn, RUNNING_MS)
if not again and not is_whole(kept[6]) then
  forget_log(turn, log, '')
  kept[6], kept[7] = '0', ''
end
if not again then
  local epoch = text_of(math.max(tonumber(ARGV[3]), tonumber(kept[1]) + 1))
  redis.call('HSET', turn, 'epoch', epoch, 'owner', ARGV[2], 'proposed', ARGV[3], 'base', kept[6],
    'epochs', kept[7] .. epoch .. ':' .. kept[6] .. ';')
end
redis.call('HSET', turn, 'lease', now + tonumber(ARGV[4]))
local there = kept[8] and redis.call('EXISTS', p .. 'conversation:' .. kept[8]) or 0
return {'taken', turn_record(turn, true), there}
