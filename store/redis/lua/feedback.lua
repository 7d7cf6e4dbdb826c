-- Return the feedback of a message.
-- uses: clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: message.
-- Returns its conversation, turn, model, rating, comment and time in ms; nothing if there is no such message or rating.
local fields = redis.call('HMGET', KEYS[1] .. 'message:' .. ARGV[1],
  'conversation', 'turn', 'rated_model', 'rating', 'comment', 'rated_ms')
if not fields[4] or redis.call('EXISTS', KEYS[1] .. 'conversation:' .. fields[1]) == 0
  or not has_message(KEYS[1], fields[1], ARGV[1]) then
  return {}
end
return fields
