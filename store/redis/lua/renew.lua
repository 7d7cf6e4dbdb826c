-- Renew the leases of some turns of one user.
-- uses: clock, turn_fields
-- KEYS[1] the user's prefix. ARGV: owner, ms of the leases, then turn and epoch of each.
-- Returns for each turn 'held', 'refused' or 'missing', and its cancel request.
local answers, until_ms = {}, clock_ms() + tonumber(ARGV[2])
redis.call('PEXPIRE', KEYS[1] .. 'running', RUNNING_MS)
for at = 3, #ARGV, 2 do
  local turn = KEYS[1] .. 'turn:' .. ARGV[at]
  local kept = kept_of(turn, 'epoch', 'owner', 'status', 'cancel')
  local outcome = 'missing'
  if kept[1] then
    outcome = 'refused'
    if kept[1] == ARGV[at + 1] and kept[2] == ARGV[1] and kept[3] == 'running' then
      outcome = 'held'
      redis.call('PEXPIRE', turn, RUNNING_MS)
      redis.call('PEXPIRE', KEYS[1] .. 'log:' .. ARGV[at], RUNNING_MS)
      redis.call('HSET', turn, 'lease', until_ms)
    end
  end
  answers[#answers + 1] = outcome
  answers[#answers + 1] = kept[4]
end
return answers
