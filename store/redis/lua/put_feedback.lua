-- Store a rating and its comment with the rated message. They replace the previous ones.
-- uses: clock, turn_fields, conversation
-- KEYS[1] the user's prefix. ARGV: message, rating, now in ms, comment (optional).
-- Returns {'ok'} or {'not_found', field}.
local key = KEYS[1] .. 'message:' .. ARGV[1]
local conversation = redis.call('HGET', key, 'conversation')
if not conversation or redis.call('EXISTS', KEYS[1] .. 'conversation:' .. conversation) == 0
  or not has_message(KEYS[1], conversation, ARGV[1]) then
  return {'not_found', 'message'}
end
redis.call('HDEL', key, 'comment')
redis.call('HSET', key, 'rating', ARGV[2], 'rated_ms', ARGV[3])
if ARGV[4] then
  redis.call('HSET', key, 'comment', ARGV[4])
end
return {'ok'}
