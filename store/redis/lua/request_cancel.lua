-- Store a turn's cancel request, unless it has one, and notify its owner.
-- uses: clock, turn_fields
-- KEYS[1] the user's prefix. ARGV: turn, cancel request, prefix of the instances' channels, payload for the owner, the
-- deadline in ms.
-- Returns {'running'}, {'ended'}, {'not_found', field} or, after the deadline, {'late'}.
local turn = KEYS[1] .. 'turn:' .. ARGV[1]
if clock_ms() > tonumber(ARGV[5]) then
  return {'late'}
end
local status, owner = get_fields(turn, 'status', 'owner')
if not status then
  return {'not_found', 'turn'}
end
if status ~= 'running' then
  return {'ended'}
end
redis.call('PEXPIRE', turn, RUNNING_TTL_MS)
redis.call('HSETNX', turn, 'cancel', ARGV[2])
redis.call('PUBLISH', CHANNEL .. ARGV[3] .. owner, ARGV[4])
return {'running'}
