-- Return the messages from a message to its root.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: conversation, message, maximum bytes of the bodies together (optional).
-- Returns {'ok', messages (newest first), number of older messages left out, with an archive the id of the next message, if
-- it isn't here} or {'not_found', field}.
local p, id, branch = KEYS[1], ARGV[2], {}
local bytes_left, older = tonumber(ARGV[3] or 'inf'), 0
if redis.call('EXISTS', p .. 'conversation:' .. ARGV[1]) == 0 or not has_message(p, ARGV[1], id) then
  return not_found('parent')
end
while id do
  if redis.call('EXISTS', p .. 'message:' .. id) == 0 then
    break
  end
  bytes_left = bytes_left - redis.call('HSTRLEN', p .. 'message:' .. id, 'body')
  if bytes_left < 0 and #branch > 0 then
    older = older + 1
  else
    branch[#branch + 1] = redis.call('HGETALL', p .. 'message:' .. id)
  end
  id = redis.call('HGET', p .. 'message:' .. id, 'parent')
end
return {'ok', branch, older, ARCHIVE and id or nil}
