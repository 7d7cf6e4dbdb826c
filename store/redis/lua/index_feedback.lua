-- Add a message to the index of feedback, with the time of its rating. The index is a hint; the message's own fields
-- decide whether it has feedback.
-- KEYS[1] the index. ARGV: now in ms, the message's member, maximum number of random members.
-- Returns random members and this one, so that the caller removes those whose message is gone.

-- This ZREM removes nothing, but a full Redis allows it, and then allows the rest of the script too.
redis.call('ZREM', KEYS[1], '')
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], USAGE_TTL_MS)
local members = redis.call('ZRANDMEMBER', KEYS[1], ARGV[3])
members[#members + 1] = ARGV[2]
return members
