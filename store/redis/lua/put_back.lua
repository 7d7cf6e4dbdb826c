-- Put the entries that were set aside into the user's outbox again. A conversation comes with all of its messages.
-- uses: clock, outbox
-- KEYS[1] the user's prefix.
-- Returns the number of entries that were set aside.
local p = KEYS[1]
local members = redis.call('HKEYS', p .. 'aside')
table.sort(members)
for _, member in ipairs(members) do
  local place = string.sub(member, 3)
  if string.sub(member, 1, 2) ~= 'c:' then
    mark(p, member)
  elseif redis.call('HGET', p .. 'conversation:' .. string.sub(place, 18), 'place') == place then
    redis.call('HDEL', p .. 'conversation:' .. string.sub(place, 18), 'archived')
    redis.call('ZADD', p .. 'unmarked', 0, place)
    mark_conversation(p, place)
  end
end
redis.call('DEL', p .. 'aside')
return #members
