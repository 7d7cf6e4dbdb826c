-- Let a lease lapse now.
-- KEYS[1] the user's prefix. ARGV: turn, epoch.
-- Returns whether the turn runs in that epoch.
local turn = KEYS[1] .. 'turn:' .. ARGV[1]
local kept = redis.call('HMGET', turn, 'epoch', 'status')
if kept[1] ~= ARGV[2] or kept[2] ~= 'running' then
  return 0
end
redis.call('PEXPIRE', turn, RUNNING_MS)
redis.call('HSET', turn, 'lease', 0)
return 1
