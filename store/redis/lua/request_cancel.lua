-- Store a turn's cancel request, unless it has one, and notify its owner. With sharded pub/sub the caller notifies it,
-- because the owner's channel is in another slot.
-- uses: absent, clock, turn_fields
-- KEYS[1] the user's prefix. ARGV: turn, cancel request, prefix of the instances' channels, payload for the owner, the
-- deadline in ms.
-- Returns {'running', owner}, {'ended'}, {'not_found', field} or, after the deadline, {'late'}.
local turn = KEYS[1] .. 'turn:' .. ARGV[1]
if clock_ms() > tonumber(ARGV[5]) then
  return {'late'}
end
local status, owner = get_fields(turn, 'status', 'owner')
if not status then
  return not_found('turn')
end
if status ~= 'running' then
  return {'ended'}
end
redis.call('PEXPIRE', turn, RUNNING_TTL_MS)
redis.call('HSETNX', turn, 'cancel', ARGV[2])
if PUBLISH == 'PUBLISH' then
  redis.call('PUBLISH', CHANNEL .. ARGV[3] .. owner, ARGV[4])
end
return {'running', owner}
