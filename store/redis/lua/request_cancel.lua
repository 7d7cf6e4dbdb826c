-- Store a turn's cancel request, unless it has one, and notify its owner.
-- uses: clock, turn_fields
-- KEYS[1] the user's prefix. ARGV: turn, cancel request, prefix of the instances' channels, payload for the owner, the
-- deadline in ms.
-- Returns {'running'}, {'ended'}, {'not_found', what} or, after the deadline, {'late'}.
local turn = KEYS[1] .. 'turn:' .. ARGV[1]
if clock_ms() > tonumber(ARGV[5]) then
  return {'late'}
end
local kept = kept_of(turn, 'status', 'owner')
if not kept[1] then
  return {'not_found', 'turn'}
end
if kept[1] ~= 'running' then
  return {'ended'}
end
redis.call('PEXPIRE', turn, RUNNING_MS)
redis.call('HSETNX', turn, 'cancel', ARGV[2])
redis.call('PUBLISH', CHANNEL .. ARGV[3] .. kept[2], ARGV[4])
return {'running'}
