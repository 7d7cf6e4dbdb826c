-- Return a conversation.
-- uses: absent
-- KEYS[1] the user's prefix. ARGV: conversation.
-- Returns {'ok', conversation} or {'not_found', field}.
local fields = redis.call('HGETALL', KEYS[1] .. 'conversation:' .. ARGV[1])
return #fields > 0 and {'ok', fields} or not_found('conversation')
