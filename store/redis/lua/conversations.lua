-- List the user's conversations, most recently changed first.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: maximum number, before ('' for none).
-- Returns {'ok', conversations} or {'not_found', field}.
local listed = list_conversations(KEYS[1], tonumber(ARGV[1]), ARGV[2], function(key)
  local conversation = redis.call('HGETALL', key)
  return #conversation > 0 and conversation
end)
return listed and {'ok', listed} or not_found('before')
