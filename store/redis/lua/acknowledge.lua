-- Remove entries from the user's outbox that the archive has, unless they have changed since they were read, and let expire
-- what they name.
-- KEYS[1] the user's prefix. ARGV: the number and the bytes of the conversations that the user has in the archive, then member and
-- number of each entry.
-- Returns the number of entries that are left.
local p = KEYS[1]
for i = 3, #ARGV, 2 do
  local member = ARGV[i]
  local kind, name = string.sub(member, 1, 2), string.sub(member, 3)
  if tonumber(redis.call('ZSCORE', p .. 'outbox', member) or 0) == tonumber(ARGV[i + 1]) then
    redis.call('ZREM', p .. 'outbox', member)
    local id = string.sub(name, 18)
    if kind == 'm:' then
      redis.call('PEXPIRE', p .. 'message:' .. name, 2 * HISTORY_TTL_MS)
    elseif kind == 'd:' then
      redis.call('PEXPIRE', p .. 'deleted:' .. id, TURN_TTL_MS)
      redis.call('PEXPIRE', p .. 'removed:' .. name, TURN_TTL_MS)
    elseif kind == 'c:' and redis.call('HGET', p .. 'conversation:' .. id, 'place') == name then
      redis.call('PEXPIRE', p .. 'conversation:' .. id, HISTORY_TTL_MS)
      redis.call('PEXPIRE', p .. 'messages:' .. id, HISTORY_TTL_MS)
    end
  end
end
local left = redis.call('ZCARD', p .. 'outbox')
if left == 0 then
  redis.call('HSET', p .. 'archived', 'conversations', ARGV[1], 'stored_bytes', ARGV[2])
  for _, name in ipairs({'conversations', 'sizes', 'stored'}) do
    redis.call('PEXPIRE', p .. name, HISTORY_TTL_MS)
  end
  for _, name in ipairs({'archived', 'change'}) do
    redis.call('PEXPIRE', p .. name, math.max(HISTORY_TTL_MS, TURN_TTL_MS))
  end
end
return left
