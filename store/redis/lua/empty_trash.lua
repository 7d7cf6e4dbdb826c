-- Delete some messages of deleted conversations, and the logs of their turns.
-- KEYS[1] the user's prefix. ARGV: maximum number of messages.
-- Returns {ids of those that were rated, 1 if there are more}.
local p, left, rated = KEYS[1], tonumber(ARGV[1]), {}
while left > 0 do
  local place = redis.call('SRANDMEMBER', p .. 'trash')
  if not place then
    break
  end
  local messages = redis.call('ZRANGE', p .. 'trash:' .. place, 0, left - 1)
  for _, message in ipairs(messages) do
    local turn, rating = unpack(redis.call('HMGET', p .. 'message:' .. message, 'turn', 'rating'))
    if turn then
      redis.call('UNLINK', p .. 'log:' .. turn)
    end
    if rating then
      rated[#rated + 1] = message
    end
    redis.call('UNLINK', p .. 'message:' .. message)
    if ARCHIVE then
      redis.call('ZREM', p .. 'outbox', 'm:' .. message)
    end
  end
  redis.call('ZREMRANGEBYRANK', p .. 'trash:' .. place, 0, left - 1)
  if redis.call('EXISTS', p .. 'trash:' .. place) == 0 then
    redis.call('SREM', p .. 'trash', place)
  end
  left = left - math.max(#messages, 1)
end
return {rated, redis.call('EXISTS', p .. 'trash')}
