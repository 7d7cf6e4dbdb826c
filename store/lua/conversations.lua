-- The user's conversations, last changed first.
-- uses: clock, kept, conversation
-- KEYS[1] the user's prefix. ARGV: at most how many, before ('' for none).
-- Returns {'ok', conversations} or {'not_found', what}. Those that Redis forgot leave the list.
local p, limit = KEYS[1], tonumber(ARGV[1])
local rank = 0
if ARGV[2] ~= '' then
  local place = redis.call('HGET', p .. 'conversation:' .. ARGV[2], 'place')
  local found = place and redis.call('ZREVRANK', p .. 'conversations', place)
  if not found then
    return {'not_found', 'before'}
  end
  rank = found + 1
end
local listed, forgotten = {}, {}
while #listed < limit do
  local places = redis.call('ZREVRANGE', p .. 'conversations', rank, rank + 99)
  if #places == 0 then
    break
  end
  rank = rank + #places
  for _, place in ipairs(places) do
    local key = p .. 'conversation:' .. string.sub(place, 18)
    if redis.call('EXISTS', key) == 0 then
      forgotten[#forgotten + 1] = place
    elseif #listed < limit then
      listed[#listed + 1] = redis.call('HGETALL', key)
    end
  end
end
for _, place in ipairs(forgotten) do
  forget_conversation(p, place)
end
return {'ok', listed}
