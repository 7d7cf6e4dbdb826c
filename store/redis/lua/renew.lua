-- Renew the leases of some turns of one user.
-- uses: clock, turn_fields
-- KEYS[1] the user's prefix. ARGV: owner, ms of the leases, then turn and epoch of each.
-- Returns for each turn 'held', 'refused' or 'missing', and its cancel request.
local results, until_ms = {}, clock_ms() + tonumber(ARGV[2])
redis.call('PEXPIRE', KEYS[1] .. 'running', RUNNING_TTL_MS)
for i = 3, #ARGV, 2 do
  local turn = KEYS[1] .. 'turn:' .. ARGV[i]
  local epoch, owner, status, cancel = get_fields(turn, 'epoch', 'owner', 'status', 'cancel')
  local outcome = 'missing'
  if epoch then
    outcome = 'refused'
    if epoch == ARGV[i + 1] and owner == ARGV[1] and status == 'running' then
      outcome = 'held'
      redis.call('PEXPIRE', turn, RUNNING_TTL_MS)
      redis.call('PEXPIRE', KEYS[1] .. 'log:' .. ARGV[i], RUNNING_TTL_MS)
      redis.call('HSET', turn, 'lease', until_ms)
    end
  end
  results[#results + 1] = outcome
  results[#results + 1] = cancel
end
return results
