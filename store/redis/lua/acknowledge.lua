-- Remove entries from the user's outbox that the archive has, unless they have changed since they were read. What they name
-- may expire from now on.
-- uses: clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: the number and the bytes of the conversations that the user has in the archive, then
-- member and number of each entry.
-- Returns 1 if the outbox had none of these entries any more: another instance was faster, or the user was erased.
local p, gone = KEYS[1], true

local function let_expire(kind, name)
  local id = string.sub(name, 18)
  if kind == 'm:' then
    local conversation = redis.call('HGET', p .. 'message:' .. name, 'conversation')
    local ttl = conversation and conversation_ttl(p, conversation) or HISTORY_TTL_MS
    redis.call('PEXPIRE', p .. 'message:' .. name, ttl + message_slack(ttl))
  elseif kind == 'd:' then
    redis.call('PEXPIRE', p .. 'deleted:' .. id, TURN_TTL_MS)
    redis.call('PEXPIRE', p .. 'removed:' .. name, TURN_TTL_MS)
  elseif kind == 'c:' and redis.call('HGET', p .. 'conversation:' .. id, 'place') == name then
    local ttl = conversation_ttl(p, id)
    redis.call('PEXPIRE', p .. 'conversation:' .. id, ttl)
    redis.call('PEXPIRE', p .. 'messages:' .. id, ttl)
  end
end

for i = 3, #ARGV, 2 do
  local member = ARGV[i]
  local kind, name = string.sub(member, 1, 2), string.sub(member, 3)
  local change = redis.call('ZSCORE', p .. 'outbox', member)
  gone = gone and not change
  if change and tonumber(change) == tonumber(ARGV[i + 1]) then
    redis.call('ZREM', p .. 'outbox', member)
    pcall(let_expire, kind, name) -- damaged data of one entry must not keep the others in the outbox
  end
end
if not gone and is_all_archived(p) then
  redis.call('HSET', p .. 'archived', 'conversations', ARGV[1], 'stored_bytes', ARGV[2])
  for _, name in ipairs({'conversations', 'sizes', 'stored', 'pinned'}) do
    redis.call('PEXPIRE', p .. name, HISTORY_TTL_MS)
  end
  for _, name in ipairs({'archived', 'change'}) do
    redis.call('PEXPIRE', p .. name, math.max(HISTORY_TTL_MS, TURN_TTL_MS))
  end
end
return gone and #ARGV > 2 and 1 or 0
