-- Write to the index of feedback when a message was rated. The index is a hint; the messages' own fields decide.
-- KEYS[1] the index. ARGV: now in ms, the message's member, maximum number of members to return.
-- Returns this member and some others, chosen at random, so that the caller removes those whose message is gone.
-- A command that frees memory goes first: then a full Redis allows the rest of the script.
redis.call('ZREM', KEYS[1], '')
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], USAGE_TTL_MS)
local members = redis.call('ZRANDMEMBER', KEYS[1], ARGV[3])
members[#members + 1] = ARGV[2]
return members
