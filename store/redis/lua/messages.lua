-- Return a page of a conversation's messages.
-- KEYS[1] the user's prefix. ARGV: conversation, maximum number, before ('' for none).
-- Returns {'ok', messages, newest first} or {'not_found', field}.
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
local page = {}
for i, message in ipairs(redis.call('ZREVRANGEBYSCORE', list, from, '-inf', 'LIMIT', 0, ARGV[2])) do
  page[i] = redis.call('HGETALL', p .. 'message:' .. message)
end
return {'ok', page}
