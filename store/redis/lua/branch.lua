-- Return messages from a message towards its root, not all of a long branch, so that no other call waits for it.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: conversation, message, maximum bytes of the bodies together ('inf': no maximum), maximum
-- number of messages ('inf': no maximum), '1' for the first call (the message has to be in the conversation, and is returned
-- whatever its size), maximum number of messages that this call reads or counts.
-- Returns {'ok', messages (newest first), number of the older messages that are left out, continuation, missing} or
-- {'not_found', field}. The continuation is the id of the message with which the next call continues, '' if there is none.
-- With an archive, missing is the id of the next message if Redis doesn't have it; otherwise ''.
local p, id, branch = KEYS[1], ARGV[2], {}
local bytes_left, count_left, forced, older = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1', 0
if redis.call('EXISTS', p .. 'conversation:' .. ARGV[1]) == 0 or (forced and not has_message(p, ARGV[1], id)) then
  return not_found('parent')
end
for _ = 1, tonumber(ARGV[6]) do
  local key = p .. 'message:' .. id
  local parent = redis.call('HGET', key, 'parent')
  if not parent and redis.call('EXISTS', key) == 0 then
    return {'ok', branch, older, '', ARCHIVE and id or ''}
  end
  if older == 0 then
    bytes_left, count_left = bytes_left - redis.call('HSTRLEN', key, 'body'), count_left - 1
  end
  if forced or (bytes_left >= 0 and count_left >= 0) then
    branch[#branch + 1] = redis.call('HGETALL', key)
  else
    older = older + 1  -- it is only counted, by one command
  end
  forced, id = false, parent
  if not id then
    return {'ok', branch, older, '', ''}
  end
end
return {'ok', branch, older, id, ''}
