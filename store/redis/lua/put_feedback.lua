-- Store a rating, its comment and the model of the rated message with that message. They replace the previous ones.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: message, the feedback as MessagePack.
-- Returns {'ok'} or {'not_found', field}.
local key, new = KEYS[1] .. 'message:' .. ARGV[1], cmsgpack.unpack(ARGV[2])
local conversation = redis.call('HGET', key, 'conversation')
if not conversation or redis.call('EXISTS', KEYS[1] .. 'conversation:' .. conversation) == 0
  or not has_message(KEYS[1], conversation, ARGV[1]) then
  return not_found('message')
end
redis.call('HDEL', key, 'comment', 'rated_model')
set_fields(key, {rating = new.rating, comment = new.comment, rated_model = new.model, rated_ms = new.rated_ms})
if ARCHIVE then
  local archived, place = unpack(redis.call('HMGET', KEYS[1] .. 'conversation:' .. conversation, 'archived', 'place'))
  if not archived then
    mark_earlier_messages(KEYS[1], place)
    mark_conversation(KEYS[1], place)
  end
  if archived or redis.call('HEXISTS', key, 'number') == 1 then
    mark_message(KEYS[1], ARGV[1])
  end -- otherwise `mark_earlier` does
end
return {'ok'}
