-- Change a conversation.
-- uses: absent, clock, turn_fields, outbox, conversation, limits
-- KEYS[1] the user's prefix. ARGV: conversation, now in ms, the change as MessagePack, the maximum number of pinned
-- conversations, the user's limits as MessagePack (optional).
-- Returns {'ok', conversation}, {'not_found', field} or {'limited', limit}.
local key, change = KEYS[1] .. 'conversation:' .. ARGV[1], cmsgpack.unpack(ARGV[3])
if redis.call('EXISTS', key) == 0 then
  return not_found('conversation')
end
local replaced_title = change.replaced_title
change.replaced_title = nil
if replaced_title and redis.call('HGET', key, 'title') ~= replaced_title then
  return {'ok', redis.call('HGETALL', key)}
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
local limits = ARGV[5] and cmsgpack.unpack(ARGV[5])
local limit = limits and added_bytes > 0 and storage_limit(KEYS[1], limits, added_bytes, false)
if limit then
  return {'limited', limit}
end
local pinned = change.pinned
change.pinned = nil
if pinned ~= nil and not set_pinned(KEYS[1], ARGV[1], pinned, tonumber(ARGV[4])) then
  return {'limited', 'pinned'}
end
if pinned ~= nil and next(change) == nil then
  redis.call('HINCRBY', key, 'revision', 1)
  publish_change(KEYS[1], ARGV[1])
  return {'ok', redis.call('HGETALL', key)}
end
count_stored(KEYS[1], ARGV[1], added_bytes)
for name, value in pairs(change) do
  redis.call('HSET', key, name, value)
end
touch_conversation(KEYS[1], ARGV[1], tonumber(ARGV[2]))
return {'ok', redis.call('HGETALL', key)}
