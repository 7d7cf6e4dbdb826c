-- The way from a message to its root.
-- uses: clock, kept, conversation
-- KEYS[1] the user's prefix. ARGV: conversation, message.
-- Returns {'ok', messages, the root last} or {'not_found', what}.
local p, id, branch = KEYS[1], ARGV[2], {}
if redis.call('EXISTS', p .. 'conversation:' .. ARGV[1]) == 0 or not has_message(p, ARGV[1], id) then
  return {'not_found', 'parent'}
end
while id do
  local message = redis.call('HGETALL', p .. 'message:' .. id)
  if #message == 0 then
    break
  end
  branch[#branch + 1] = message
  id = redis.call('HGET', p .. 'message:' .. id, 'parent')
end
return {'ok', branch}
