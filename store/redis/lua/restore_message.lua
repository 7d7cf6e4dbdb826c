-- Store a message of the archive again, if its conversation is here. Its number is its place in the list of
-- the conversation's messages.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: the message's number, its fields as MessagePack.
-- Returns {'ok'} or {'not_found', field}.
local p, message = KEYS[1], cmsgpack.unpack(ARGV[2])
local list = p .. 'messages:' .. message.conversation
if redis.call('EXISTS', p .. 'conversation:' .. message.conversation) == 0 then
  return not_found('message')
end
local ttl = conversation_ttl(p, message.conversation)
if redis.call('EXISTS', p .. 'message:' .. message.id) == 0 then
  set_fields(p .. 'message:' .. message.id, message)
  redis.call('PEXPIRE', p .. 'message:' .. message.id, ttl + message_slack(ttl))
end
local has_list = redis.call('EXISTS', list) == 1
redis.call('ZADD', list, ARGV[1], message.id)
if not has_list then
  redis.call('PEXPIRE', list, ttl)
end
return {'ok'}
