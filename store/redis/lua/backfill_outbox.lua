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
  -- A conversation that changes meanwhile is marked by that. The score says where the next slice begins.
  local from, count, places = redis.call('GET', p .. 'backfilled_to') or '-inf', left, {}
  repeat -- until the slice has more than one score, because otherwise the next one would be the same
    places = redis.call('ZRANGEBYSCORE', p .. 'conversations', from, '+inf', 'WITHSCORES', 'LIMIT', 0, count)
    count = 2 * count
  until #places < count or places[#places] ~= from
  for i = 1, #places, 2 do
    local key = p .. 'conversation:' .. string.sub(places[i], 18)
    local place, archived = unpack(redis.call('HMGET', key, 'place', 'archived'))
    if place == places[i] and not archived and not redis.call('ZSCORE', p .. 'unmarked', place) then
      mark_conversation(p, place)
      mark_earlier_messages(p, place)
    end
  end
  if #places == count then
    redis.call('SET', p .. 'backfilled_to', places[#places], 'PX', USAGE_TTL_MS)
    return 1
  end
  redis.call('DEL', p .. 'backfilled_to')
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
