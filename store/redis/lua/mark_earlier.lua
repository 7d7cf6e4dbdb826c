-- Mark some messages of conversations that were stored when no archive was set, the oldest first.
-- uses: clock, outbox
-- KEYS[1] the user's prefix. ARGV: maximum number of messages and conversations together.
-- Returns 1 if there are more.
local p, left = KEYS[1], tonumber(ARGV[1])
while left > 0 do
  local place, last = unpack(redis.call('ZRANGE', p .. 'unmarked', 0, 0, 'WITHSCORES'))
  if not place then
    return 0
  end
  local id = string.sub(place, 18)
  local key = p .. 'conversation:' .. id
  local exists = redis.call('HGET', key, 'place') == place
  local members = exists
    and redis.call('ZRANGEBYSCORE', p .. 'messages:' .. id, '(' .. last, '+inf', 'WITHSCORES', 'LIMIT', 0, left) or {}
  for i = 1, #members, 2 do
    local message = p .. 'message:' .. members[i]
    if redis.call('EXISTS', message) == 1 then
      redis.call('HSET', message, 'number', members[i + 1])
      mark_message(p, members[i])
    end
  end
  if #members == 2 * left then
    redis.call('ZADD', p .. 'unmarked', members[#members], place)
  else
    redis.call('ZREM', p .. 'unmarked', place)
    if exists then
      redis.call('HSET', key, 'archived', 1)
    end
  end
  left = left - math.max(#members / 2, 1)
end
return redis.call('EXISTS', p .. 'unmarked')
