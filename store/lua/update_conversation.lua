-- Change a conversation.
-- uses: clock, kept, conversation
-- KEYS[1] the user's prefix. ARGV: conversation, now, the change as MessagePack.
-- Returns {'ok', conversation} or {'not_found', what}.
local key, change = KEYS[1] .. 'conversation:' .. ARGV[1], cmsgpack.unpack(ARGV[3])
if redis.call('EXISTS', key) == 0 then
  return {'not_found', 'conversation'}
end
if change.head and not has_message(KEYS[1], ARGV[1], change.head) then
  return {'not_found', 'head'}
end
for name, value in pairs(change) do
  redis.call('HSET', key, name, value)
end
touch_conversation(KEYS[1], ARGV[1], tonumber(ARGV[2]))
return {'ok', redis.call('HGETALL', key)}
