-- List the ids and titles of the user's conversations, most recently changed first.
-- uses: clock, turn_fields, conversation
-- KEYS[1] the user's prefix. ARGV: maximum number, before ('' for none).
-- Returns {'ok', pairs of id and title} or {'not_found', field}.
local listed = list_conversations(KEYS[1], tonumber(ARGV[1]), ARGV[2], function(key)
  local pair = redis.call('HMGET', key, 'id', 'title')
  return pair[1] and pair
end)
return listed and {'ok', listed} or {'not_found', 'before'}
