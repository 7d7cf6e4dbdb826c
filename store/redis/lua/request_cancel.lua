-- Keep the wish to stop a turn, and tell its owner.
-- uses: clock, turn_fields
-- KEYS[1] the user's prefix. ARGV: turn, wish, what instances' channels begin with, what the owner is told, until when to
-- do it.
-- Returns {'running'}, {'ended'}, {'not_found', what} or {'late'}.
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
