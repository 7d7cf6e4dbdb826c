-- Remove a conversation's head. The ending of a turn that was accepted before no longer moves it.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: conversation, now in ms.
-- Returns {'ok', conversation} or {'not_found', field}.
local key = KEYS[1] .. 'conversation:' .. ARGV[1]
if redis.call('EXISTS', key) == 0 then
  return not_found('conversation')
end
redis.call('HDEL', key, 'head')
touch_conversation(KEYS[1], ARGV[1], tonumber(ARGV[2]))
redis.call('HSET', key, 'cleared', redis.call('HGET', key, 'revision'))
return {'ok', redis.call('HGETALL', key)}
