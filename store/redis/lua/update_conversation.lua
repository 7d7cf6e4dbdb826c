-- Change a conversation.
-- uses: absent, clock, turn_fields, outbox, conversation, limits
-- KEYS[1] the user's prefix. ARGV: conversation, now in ms, the change as MessagePack, the user's limits as MessagePack
-- (optional).
-- Returns {'ok', conversation}, {'not_found', field} or {'limited', limit}.
local key, change = KEYS[1] .. 'conversation:' .. ARGV[1], cmsgpack.unpack(ARGV[3])
if redis.call('EXISTS', key) == 0 then
  return not_found('conversation')
end
if change.head and not has_message(KEYS[1], ARGV[1], change.head) then
  return not_found('head')
end
local added_bytes = 0
for name, value in pairs(change) do
  if name == 'title' or name == 'system' or name == 'metadata' then
    added_bytes = added_bytes + #value - redis.call('HSTRLEN', key, name)
  end
end
local limits = ARGV[4] and cmsgpack.unpack(ARGV[4])
local limit = limits and added_bytes > 0 and storage_limit(KEYS[1], limits, added_bytes, false)
if limit then
  return {'limited', limit}
end
count_stored(KEYS[1], ARGV[1], added_bytes)
for name, value in pairs(change) do
  redis.call('HSET', key, name, value)
end
touch_conversation(KEYS[1], ARGV[1], tonumber(ARGV[2]))
return {'ok', redis.call('HGETALL', key)}
