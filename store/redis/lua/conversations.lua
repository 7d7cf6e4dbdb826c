-- List the user's conversations, most recently changed first.
-- uses: absent, clock, turn_fields, outbox, conversation
-- KEYS[1] the user's prefix. ARGV: maximum number, before ('' for none), 1 to list only the pinned ones.
-- Returns {'ok', conversations} or {'not_found', field}.
local list = ARGV[3] == '1' and list_pinned or list_conversations
local listed = list(KEYS[1], tonumber(ARGV[1]), ARGV[2], function(key)
  local conversation = redis.call('HGETALL', key)
  return #conversation > 0 and conversation
end)
return listed and {'ok', listed} or not_found('before')
