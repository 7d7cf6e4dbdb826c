-- Mark what the user has in Redis from the time before an archive was set up: conversations, their messages, and usage.
-- uses: clock, outbox
-- KEYS[1] the user's prefix. ARGV: maximum number of conversations and of turns.
-- Returns 1 if there may be more.
local p, left = KEYS[1], tonumber(ARGV[1])
local cursor = redis.call('GET', p .. 'backfilled')
if cursor == 'all' then
  return 0
end
if not cursor then
  for _, place in ipairs(redis.call('ZRANGE', p .. 'conversations', 0, -1)) do
    local id = string.sub(place, 18)
    local found = redis.call('HMGET', p .. 'conversation:' .. id, 'place', 'archived')
    if found[1] and not found[2] then
      if left == 0 then
        return 1
      end
      mark_conversation(p, place)
      mark_earlier_messages(p, id)
      left = left - 1
    end
  end
  cursor = '0'
end
local turns = redis.call('ZRANGE', p .. 'usage', cursor, cursor + left - 1, 'WITHSCORES')
for i = 1, #turns, 2 do
  local turn, last = cmsgpack.unpack(turns[i]), 3 + #{COUNTERS}
  local place = turn[3] and string.find(turn[3], '^%d+:') and turn[3]
  local entry = {turn[1], place and string.sub(place, 18), place, '', 'completed', tonumber(turns[i + 1])}
  if not turn[last + 1] then
    mark(p, 't:' .. cmsgpack.pack({entry, {unpack(turn, 4, last)}}))
  end
end
local is_end = #turns < 2 * left
redis.call('SET', p .. 'backfilled', is_end and 'all' or text_of(cursor + left), 'PX', USAGE_TTL_MS)
return is_end and 0 or 1
