-- Expire a lease now.
-- uses: turn_fields
-- KEYS[1] the user's prefix. ARGV: turn, epoch.
-- Returns 1 if the turn runs in that epoch, else 0.
local turn = KEYS[1] .. 'turn:' .. ARGV[1]
local epoch, status = get_fields(turn, 'epoch', 'status')
if epoch ~= ARGV[2] or status ~= 'running' then
  return 0
end
redis.call('PEXPIRE', turn, RUNNING_TTL_MS)
redis.call('HSET', turn, 'lease', 0)
return 1
