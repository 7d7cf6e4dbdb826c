-- Keep a new conversation; one that is there stays.
-- uses: clock, kept, conversation
-- KEYS[1] the user's prefix. ARGV: the conversation as MessagePack.
local new = cmsgpack.unpack(ARGV[1])
if redis.call('EXISTS', KEYS[1] .. 'conversation:' .. new.id) == 0 then
  create_conversation(KEYS[1], new)
end
return 1
