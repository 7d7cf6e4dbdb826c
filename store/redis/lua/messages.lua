-- Return a page of a conversation's messages.
-- KEYS[1] the user's prefix. ARGV: conversation, maximum number, before ('' for none), maximum bytes of the bodies
-- together (optional).
-- Returns {'ok', messages (newest first), 1 if there are older ones} or {'not_found', field}.
local p, list = KEYS[1], KEYS[1] .. 'messages:' .. ARGV[1]
if redis.call('EXISTS', p .. 'conversation:' .. ARGV[1]) == 0 then
  return {'not_found', 'conversation'}
end
local from = '+inf'
if ARGV[3] ~= '' then
  from = redis.call('ZSCORE', list, ARGV[3])
  if not from then
    return {'not_found', 'before'}
  end
  from = '(' .. from
end
local page, limit, bytes_left = {}, tonumber(ARGV[2]), tonumber(ARGV[4] or 'inf')
for i, message in ipairs(redis.call('ZREVRANGEBYSCORE', list, from, '-inf', 'LIMIT', 0, limit + 1)) do
  bytes_left = bytes_left - redis.call('HSTRLEN', p .. 'message:' .. message, 'body')
  if i > limit or (bytes_left < 0 and i > 1) then
    return {'ok', page, 1}
  end
  page[i] = redis.call('HGETALL', p .. 'message:' .. message)
end
return {'ok', page, 0}
