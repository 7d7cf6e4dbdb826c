-- Expire a lease now.
-- uses: turn_fields
-- KEYS[1] the user's prefix. ARGV: turn, epoch.
-- Returns 1 if the turn runs in that epoch, else 0.
local turn = KEYS[1] .. 'turn:' .. ARGV[1]
local kept = kept_of(turn, 'epoch', 'status')
if kept[1] ~= ARGV[2] or kept[2] ~= 'running' then
  return 0
end
redis.call('PEXPIRE', turn, RUNNING_MS)
redis.call('HSET', turn, 'lease', 0)
return 1
