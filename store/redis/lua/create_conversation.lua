-- Store a new conversation, unless the user has one with its id.
-- uses: clock, turn_fields, cold, outbox, conversation, limits
-- KEYS[1] the user's prefix. ARGV: the conversation as MessagePack, the user's limits as MessagePack (''
-- for none), 1 to return {'cold', conversation} if the conversation isn't in Redis but may be in the archive.
-- Returns {'ok', conversation} or {'limited', limit}.
local new, limits = cmsgpack.unpack(ARGV[1]), ARGV[2] ~= '' and cmsgpack.unpack(ARGV[2])
local key = KEYS[1] .. 'conversation:' .. new.id
if ARGV[3] == '1' and is_cold(KEYS[1], new.id) then
  return {'cold', new.id}
end
if redis.call('EXISTS', key) == 0 then
  local limit = limits and storage_limit(KEYS[1], limits, conversation_size(new), true)
  if limit then
    return {'limited', limit}
  end
  create_conversation(KEYS[1], new)
  publish_change(KEYS[1], new.id)
end
return {'ok', redis.call('HGETALL', key)}
