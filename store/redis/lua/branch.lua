-- Return the messages from a message to its root.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: conversation, message, maximum bytes of the bodies together ('inf': no maximum), maximum
-- number of messages (optional).
-- Returns {'ok', messages (newest first), number of older messages left out, with an archive the id of the next message, if
-- it isn't here} or {'not_found', field}.
local p, id, branch = KEYS[1], ARGV[2], {}
local bytes_left, count_left, older = tonumber(ARGV[3]), tonumber(ARGV[4] or 'inf'), 0
if redis.call('EXISTS', p .. 'conversation:' .. ARGV[1]) == 0 or not has_message(p, ARGV[1], id) then
  return not_found('parent')
end
while id do
  local key = p .. 'message:' .. id
  local parent = redis.call('HGET', key, 'parent')
  if not parent and redis.call('EXISTS', key) == 0 then
    break
  end
  if older == 0 then
    bytes_left, count_left = bytes_left - redis.call('HSTRLEN', key, 'body'), count_left - 1
  end
  if (bytes_left < 0 or count_left < 0) and #branch > 0 then
    older = older + 1  -- only counted, by one command for each message
  else
    branch[#branch + 1] = redis.call('HGETALL', key)
  end
  id = parent
end
return {'ok', branch, older, ARCHIVE and id or nil}
