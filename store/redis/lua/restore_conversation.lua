-- Store a conversation of the archive again, with its newest messages, unless it is here or was deleted meanwhile.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: the conversation's fields as MessagePack, its size, the number of its last change, then
-- number and fields of each message, these as MessagePack too.
-- Returns {'ok'} or {'not_found', field}.
local p, new = KEYS[1], cmsgpack.unpack(ARGV[1])
local key = p .. 'conversation:' .. new.id
if redis.call('EXISTS', p .. 'removed:' .. new.place) == 1 then
  return not_found('conversation')
end
if redis.call('EXISTS', key) == 1 then
  return {'ok'}
end
local ttl = history_ttl(new.retention_days)
new.swept, new.swept_ttl, new.archived = clock_ms(), ttl, 1
set_fields(key, new)
redis.call('PEXPIRE', key, ttl)
if new.pinned then
  redis.call('SADD', p .. 'pinned', new.id)
end
redis.call('ZADD', p .. 'conversations', 'NX', ARGV[3] / 1000, new.place)
redis.call('DEL', p .. 'messages:' .. new.id)
local counted = redis.call('HGET', p .. 'sizes', new.id) or 0
redis.call('HSET', p .. 'sizes', new.id, ARGV[2])
redis.call('INCRBY', p .. 'stored', ARGV[2] - counted)
for _, name in ipairs({'conversations', 'sizes', 'stored', 'pinned'}) do
  if is_all_archived(p) and redis.call('PTTL', p .. name) < HISTORY_TTL_MS then
    redis.call('PEXPIRE', p .. name, HISTORY_TTL_MS)
  end
end
for i = 4, #ARGV, 2 do
  local message = cmsgpack.unpack(ARGV[i + 1])
  redis.call('ZADD', p .. 'messages:' .. new.id, ARGV[i], message.id)
  if redis.call('ZSCORE', p .. 'outbox', 'm:' .. message.id) == false then
    redis.call('DEL', p .. 'message:' .. message.id)
    set_fields(p .. 'message:' .. message.id, message)
    redis.call('PEXPIRE', p .. 'message:' .. message.id, ttl + message_slack(ttl))
  end
end
redis.call('PEXPIRE', p .. 'messages:' .. new.id, ttl)
return {'ok'}
