-- The titles of the user's conversations, last changed first.
-- uses: clock, kept, conversation
-- KEYS[1] the user's prefix. ARGV: at most how many, before ('' for none).
-- Returns {'ok', ids and titles in turn, how many places were looked at} or {'not_found', what}.
local p = KEYS[1]
local rank = 0
if ARGV[2] ~= '' then
  local place = redis.call('HGET', p .. 'conversation:' .. ARGV[2], 'place')
  local found = place and redis.call('ZREVRANK', p .. 'conversations', place)
  if not found then
    return {'not_found', 'before'}
  end
  rank = found + 1
end
local titles = {}
for _, place in ipairs(redis.call('ZREVRANGE', p .. 'conversations', rank, rank + ARGV[1] - 1)) do
  local id = string.sub(place, 18)
  local title = redis.call('HGET', p .. 'conversation:' .. id, 'title')
  if title then
    titles[#titles + 1] = id
    titles[#titles + 1] = title
  else
    forget_conversation(p, place)
  end
end
return {'ok', titles}
