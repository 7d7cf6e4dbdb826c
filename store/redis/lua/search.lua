-- Read a slice of the user's conversations and their messages for a search, the last changed first, messages newest first.
-- uses: absent
-- KEYS[1] the user's prefix. ARGV: the conversation after which the list begins ('' for none), or the place where the last
-- slice ended (score of its last conversation, number of its last message there, or '' for each), maximum number of
-- conversations and messages together, approximate maximum number of bytes.
-- Returns {'ok', conversations, score, number} or {'not_found', field}. Each conversation is {id, title, score, messages}, and
-- each message {id, body}. The last two are the place where this slice ends; the score is false at the end of the list, and
-- the number is false if the slice ends with a whole conversation.
local p, before, score, number = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local items_left, bytes_left = tonumber(ARGV[4]), tonumber(ARGV[5])
local list, found = p .. 'conversations', {}
if before ~= '' then
  local member = redis.call('HGET', p .. 'conversation:' .. before, 'place')
  score = member and redis.call('ZSCORE', list, member)
  if not score then
    return not_found('before')
  end
end
-- A number says that the conversation with that score isn't read completely. It has another score if it has changed since.
local from = score == '' and '+inf' or (number == '' and '(' .. score or score)
while true do
  local members = redis.call('ZREVRANGEBYSCORE', list, from, '-inf', 'WITHSCORES', 'LIMIT', 0, 50)
  for i = 1, #members, 2 do
    local id, place = string.sub(members[i], 18), members[i + 1]
    local title = redis.call('HGET', p .. 'conversation:' .. id, 'title')
    from = '(' .. place
    if title then
      local conversation = {id, title, place, {}}
      found[#found + 1] = conversation
      items_left = items_left - 1
      local below = number ~= '' and place == score and '(' .. number or '+inf'
      while below do
        local messages = redis.call('ZREVRANGEBYSCORE', p .. 'messages:' .. id, below, '-inf', 'WITHSCORES', 'LIMIT', 0, 50)
        for j = 1, #messages, 2 do
          local body = redis.call('HGET', p .. 'message:' .. messages[j], 'body')
          below = '(' .. messages[j + 1]
          items_left = items_left - 1
          if body then
            local read = conversation[4]
            read[#read + 1] = {messages[j], body}
            bytes_left = bytes_left - #body
          end
          if items_left <= 0 or bytes_left <= 0 then
            return {'ok', found, place, messages[j + 1]}
          end
        end
        below = #messages == 100 and below
      end
      number = ''
      if items_left <= 0 then
        return {'ok', found, place, false}
      end
    end
  end
  if #members < 100 then
    return {'ok', found, false, false}
  end
end
