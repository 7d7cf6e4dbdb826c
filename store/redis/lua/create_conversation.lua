-- Store a new conversation; do nothing if it exists.
-- uses: clock, turn_fields, conversation, limits
-- KEYS[1] the user's prefix. ARGV: the conversation as MessagePack, the user's limits as MessagePack (optional).
-- Returns {'ok'} or {'limited', limit}.
local new, limits = cmsgpack.unpack(ARGV[1]), ARGV[2] and cmsgpack.unpack(ARGV[2])
if redis.call('EXISTS', KEYS[1] .. 'conversation:' .. new.id) == 1 then
  return {'ok'}
end
local limit = limits and storage_limit(KEYS[1], limits, conversation_size(new), true)
if limit then
  return {'limited', limit}
end
create_conversation(KEYS[1], new)
return {'ok'}
