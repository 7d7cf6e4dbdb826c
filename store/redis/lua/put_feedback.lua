-- Store a rating, its comment and the model of the rated message with that message. They replace the previous ones.
-- uses: clock, turn_fields, conversation
-- KEYS[1] the user's prefix. ARGV: message, the feedback as MessagePack.
-- Returns {'ok'} or {'not_found', field}.
local key, new = KEYS[1] .. 'message:' .. ARGV[1], cmsgpack.unpack(ARGV[2])
local conversation = redis.call('HGET', key, 'conversation')
if not conversation or redis.call('EXISTS', KEYS[1] .. 'conversation:' .. conversation) == 0
  or not has_message(KEYS[1], conversation, ARGV[1]) then
  return {'not_found', 'message'}
end
redis.call('HDEL', key, 'comment', 'rated_model')
set_fields(key, {rating = new.rating, comment = new.comment, rated_model = new.model, rated_ms = new.rated_ms})
return {'ok'}
