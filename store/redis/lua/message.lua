-- Return a message.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: message.
-- Returns {'ok', message} or {'not_found', field}.
local key = KEYS[1] .. 'message:' .. ARGV[1]
local conversation = redis.call('HGET', key, 'conversation')
if not conversation or redis.call('EXISTS', KEYS[1] .. 'conversation:' .. conversation) == 0
  or not has_message(KEYS[1], conversation, ARGV[1]) then
  return not_found('message')
end
return {'ok', redis.call('HGETALL', key)}
