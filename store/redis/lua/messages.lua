-- Return a page of a conversation's messages. Messages that are lost are left out.
-- uses: absent
-- KEYS[1] the user's prefix. ARGV: conversation, maximum number, before ('' for none), maximum bytes of the bodies
-- together (optional).
-- Returns {'ok', messages (newest first), 1 if there are older ones, with an archive the number before which only the archive
-- has messages (0 for none), with an archive 1 if some are lost} or {'not_found', field}.
local p, list = KEYS[1], KEYS[1] .. 'messages:' .. ARGV[1]
if redis.call('EXISTS', p .. 'conversation:' .. ARGV[1]) == 0 then
  return not_found('conversation')
end
local from, cold, lost = '+inf', ARCHIVE and tonumber(redis.call('HGET', p .. 'conversation:' .. ARGV[1], 'cold') or 0), 0
if ARGV[3] ~= '' then
  from = redis.call('ZSCORE', list, ARGV[3])
  if not from then
    return not_found('before')
  end
  cold = cold and math.min(cold, tonumber(from))
  from = '(' .. from
end
local page, limit, bytes_left = {}, tonumber(ARGV[2]), tonumber(ARGV[4] or 'inf')
local offset, slice = 0, limit + 1
while true do
  local messages = redis.call('ZREVRANGEBYSCORE', list, from, cold or '-inf', 'LIMIT', offset, slice)
  for _, message in ipairs(messages) do
    local key = p .. 'message:' .. message
    if redis.call('EXISTS', key) == 1 then
      bytes_left = bytes_left - redis.call('HSTRLEN', key, 'body')
      if #page == limit or (bytes_left < 0 and #page > 0) then
        return {'ok', page, 1, cold or nil, ARCHIVE and lost or nil}
      end
      page[#page + 1] = redis.call('HGETALL', key)
    else
      lost = 1
    end
  end
  if #messages < slice then
    return {'ok', page, 0, cold or nil, ARCHIVE and lost or nil}
  end
  offset, slice = offset + slice, 1000
end
