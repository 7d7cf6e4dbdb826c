-- Shared: return the number of a new change of the user. The numbers grow, whatever the clock says.
local function next_change(p)
  local last = tonumber(redis.call('GET', p .. 'change') or 0)
  local change = math.max(last + 1, clock_us())
  redis.call('SET', p .. 'change', text_of(change))
  return change
end

-- Shared: note in the user's outbox what has changed. A member that is there already gets a new number. What a member names
-- doesn't expire before the archive has it: the caller removes its time to live, and `acknowledge` sets it again.
local function mark(p, member)
  redis.call('ZADD', p .. 'outbox', text_of(next_change(p)), member)
end

-- Shared: mark a conversation. `place` is its member in the user's list.
local function mark_conversation(p, place)
  local id = string.sub(place, 18)
  redis.call('PERSIST', p .. 'conversation:' .. id)
  redis.call('PERSIST', p .. 'messages:' .. id)
  mark(p, 'c:' .. place)
end

-- Shared: mark a message that has its number already.
local function mark_message(p, message)
  redis.call('PERSIST', p .. 'message:' .. message)
  mark(p, 'm:' .. message)
end

-- Shared: note a conversation that was stored before an archive was set. The drain marks its messages in slices, oldest
-- first, by `mark_earlier`. A message that is added meanwhile is marked after the older ones, so that the archive gets
-- all of them in order. The conversation gets its field `archived` when the last one is marked. The score in the set is
-- the number of the last message that was marked.
local function mark_earlier_messages(p, place)
  redis.call('ZADD', p .. 'unmarked', 'NX', 0, place)
end

-- Shared: return whether the archive has everything of the user.
local function is_all_archived(p)
  return redis.call('EXISTS', p .. 'outbox', p .. 'unmarked') == 0
end

-- Shared: add to the archive's last count of what the user has there. Its next count replaces the sum.
local function count_archived(p, conversations, bytes)
  redis.call('HINCRBY', p .. 'archived', 'stored_bytes', bytes)
  if conversations ~= 0 then
    redis.call('HINCRBY', p .. 'archived', 'conversations', conversations)
  end
end
