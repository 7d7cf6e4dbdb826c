-- Return the oldest entries of the user's outbox, with the present state of what they name.
-- KEYS[1] the user's prefix. ARGV: maximum number, approximate maximum number of bytes.
-- Returns {entries, 1 if there are more, number of the last change, 1 if `mark_earlier` has to mark messages}. Each entry is {member, number of the change, state}.
-- The state is empty if what the member names is gone, and false if it can't be read. Otherwise it is {fields, size} of a
-- conversation, {fields, place of its conversation} of a message, or {fields, counters} of a turn.
local MEMBER_BYTES_MAX = 65536
local p, bytes_left, entries = KEYS[1], tonumber(ARGV[2]), {}

local function conversation_state(place)
  local id = string.sub(place, 18)
  if redis.call('HGET', p .. 'conversation:' .. id, 'place') ~= place then
    return {}
  end
  return {redis.call('HGETALL', p .. 'conversation:' .. id), redis.call('HGET', p .. 'sizes', id) or '0'}
end

local trash = redis.call('SMEMBERS', p .. 'trash')

local function message_state(message)
  local id = redis.call('HGET', p .. 'message:' .. message, 'conversation')
  if not id then
    return {}
  end
  for _, place in ipairs(trash) do
    if redis.call('ZSCORE', p .. 'trash:' .. place, message) then
      return {}
    end
  end
  return {redis.call('HGETALL', p .. 'message:' .. message), redis.call('HGET', p .. 'conversation:' .. id, 'place')}
end

-- The numbers are returned as text, as in the fields of conversations and messages.
local function turn_state(packed)
  local turn, counts = unpack(cmsgpack.unpack(packed))
  for i, value in ipairs(counts) do
    counts[i] = value and string.format('%.0f', value)
  end
  turn[6] = string.format('%.0f', turn[6])
  return {turn, counts}
end

local members = redis.call('ZRANGE', p .. 'outbox', 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
local states = {['c:'] = conversation_state, ['m:'] = message_state, ['t:'] = turn_state, ['d:'] = function() return {} end}
for i = 1, #members, 2 do
  local kind, name = string.sub(members[i], 1, 2), string.sub(members[i], 3)
  local size = #members[i]
  if kind == 'm:' then
    local body = redis.pcall('HSTRLEN', p .. 'message:' .. name, 'body')
    size = size + (tonumber(body) or 0)
  end
  if size > bytes_left and #entries > 0 then
    break
  end
  bytes_left = bytes_left - size
  local is_read, state = false, nil
  if states[kind] and #members[i] <= MEMBER_BYTES_MAX then
    is_read, state = pcall(states[kind], name)
  end
  entries[#entries + 1] = {members[i], members[i + 1], is_read and state}
end
local last = redis.call('ZREVRANGE', p .. 'outbox', 0, 0, 'WITHSCORES')
local unmarked = redis.call('EXISTS', p .. 'unmarked')
local more = unmarked == 1 or redis.call('ZCARD', p .. 'outbox') > #entries
return {entries, more and 1 or 0, last[2] or false, unmarked}
