-- Make an instance a turn's owner.
-- uses: absent, clock, turn_fields, cold, entries
-- KEYS[1] the user's prefix. ARGV: turn, owner, proposed epoch, ms of the lease, 1 to claim a held turn too.
-- Returns {'claimed', turn, whether its conversation exists}, {'held'} (also if it has ended) or {'not_found', field}.
local p = KEYS[1]
local turn = p .. 'turn:' .. ARGV[1]
local log = p .. 'log:' .. ARGV[1]
local epoch, status, lease, owner, proposed, seq, epochs =
  get_fields(turn, 'epoch', 'status', 'lease', 'owner', 'proposed', 'seq', 'epochs')
if not epoch then
  return not_found('turn')
end
if status ~= 'running' then
  return {'held'}
end
-- Return whether the log exists completely, from its first event to `seq`.
local function is_complete()
  if seq == '0' then
    return true
  end
  local first = redis.pcall('XRANGE', log, '-', '+', 'COUNT', 1)
  local last = redis.pcall('XREVRANGE', log, '+', '-', 'COUNT', 1)
  return #first == 1 and first[1][2][2] == '1' and string.match(last[1][1], '%d+$') == seq
end

local now = clock_ms()
-- Whether this call repeats an earlier one whose reply was lost.
local is_repeat = owner == ARGV[2] and proposed == ARGV[3]
if not is_repeat and ARGV[5] ~= '1' and tonumber(lease) > now then
  return {'held'}
end
redis.call('PEXPIRE', turn, RUNNING_TTL_MS)
if not is_repeat then
  if not is_complete() then
    reset_log(turn, log, '')
    seq, epochs = '0', ''
  end
  epoch = text_of(math.max(tonumber(ARGV[3]), tonumber(epoch) + 1))
  redis.call('HSET', turn, 'epoch', epoch, 'owner', ARGV[2], 'proposed', ARGV[3], 'base', seq,
    'epochs', epochs .. epoch .. ':' .. seq .. ';')
end
redis.call('HSET', turn, 'lease', now + tonumber(ARGV[4]))
return {'claimed', turn_record(turn, true), in_history(p, turn) and 1 or 0}
