-- List the turns of a conversation or of the user that have no ending.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: conversation ('' for all).
-- Returns {'ok', ids, oldest first} or {'not_found', field}.
if ARGV[1] == '' then
  return {'ok', running_turns(KEYS[1], 'running')}
end
if redis.call('EXISTS', KEYS[1] .. 'conversation:' .. ARGV[1]) == 0 then
  return not_found('conversation')
end
return {'ok', running_turns(KEYS[1], 'active:' .. ARGV[1])}
