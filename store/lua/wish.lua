-- Keep the wish to stop a turn, and tell its owner.
-- KEYS[1] the user's prefix. ARGV: turn, wish, what instances' channels begin with, what the owner is told.
-- Returns {'running'}, {'ended'} or {'not_found', what}.
local turn = KEYS[1] .. 'turn:' .. ARGV[1]
local kept = redis.call('HMGET', turn, 'status', 'owner')
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
