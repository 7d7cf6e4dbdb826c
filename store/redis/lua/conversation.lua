-- Shared: the maximum number of messages whose time to live is restarted at once, if an archive is set.
local SWEPT_MAX = 1000

-- Shared: set the fields of a hash to those of a table that aren't nil.
local function set_fields(key, fields)
  local flat = {}
  for name, value in pairs(fields) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call('HSET', key, unpack(flat))
end

-- Shared: return how long a conversation with these `retention_days` lives after a change, in ms. If they are false, the setting
-- applies; 0 means forever.
local function history_ttl(retention_days)
  local days = tonumber(retention_days or RETENTION_DAYS)
  return days > 0 and math.min(days * DAY_MS, HISTORY_TTL_MS) or HISTORY_TTL_MS
end

-- Shared: return how long a conversation lives after a change, in ms.
local function conversation_ttl(p, id)
  return history_ttl(redis.call('HGET', p .. 'conversation:' .. id, 'retention_days'))
end

-- Shared: return how much longer than its conversation a message lives, in ms: the time to live of the messages is restarted
-- only from time to time. With a retention, it is at most a day.
local function message_slack(ttl)
  return ttl < HISTORY_TTL_MS and math.min(ttl, DAY_MS) or ttl
end

-- Shared: let a key that is for all conversations of the user live at least as long as a conversation that changes now. Its
-- time to live isn't shortened: if the setting was lowered, the conversations that haven't changed since live longer.
local function prolong(key)
  if ARCHIVE then
    redis.call('PERSIST', key) -- until everything of the user is in the archive
  elseif redis.call('PTTL', key) < HISTORY_TTL_MS then
    redis.call('PEXPIRE', key, HISTORY_TTL_MS)
  end
end

-- Shared: add `bytes` to the size of a conversation in `sizes`, and to the sum of the user's conversations in `stored`.
local function count_stored(p, id, bytes)
  redis.call('HINCRBY', p .. 'sizes', id, bytes)
  redis.call('INCRBY', p .. 'stored', bytes)
  prolong(p .. 'sizes')
  prolong(p .. 'stored')
  if ARCHIVE then
    count_archived(p, 0, bytes)
  end
end

-- Shared: return the size of a new conversation in bytes.
local function conversation_size(new)
  return #new.title + #(new.system or '') + #new.metadata
end

-- Shared: remove an expired or deleted conversation from the user's list, by its member there, and from the sum.
local function remove_conversation(p, member)
  local id = string.sub(member, 18)
  redis.call('ZREM', p .. 'conversations', member)
  local size = redis.call('HGET', p .. 'sizes', id)
  if size then
    redis.call('HDEL', p .. 'sizes', id)
    if redis.call('DECRBY', p .. 'stored', size) <= 0 then
      redis.call('DEL', p .. 'stored')
    end
  end
end

-- Shared: return the results of `read` for the keys of the user's conversations, most recently changed first: at most
-- `limit`, from those after the conversation `before` ('' for the first ones). Returns nil if `before` doesn't exist.
-- If `read` returns a false value, Redis has expired the conversation, and it is removed from the list.
local function list_conversations(p, limit, before, read)
  local rank = 0
  if before ~= '' then
    local member = redis.call('HGET', p .. 'conversation:' .. before, 'place')
    local before_rank = member and redis.call('ZREVRANK', p .. 'conversations', member)
    if not before_rank then
      return nil
    end
    rank = before_rank + 1
  end
  local listed, expired = {}, {}
  while #listed < limit do
    local members = redis.call('ZREVRANGE', p .. 'conversations', rank, rank + 99)
    if #members == 0 then
      break
    end
    rank = rank + #members
    for _, member in ipairs(members) do
      local result = #listed < limit and read(p .. 'conversation:' .. string.sub(member, 18))
      if result then
        listed[#listed + 1] = result
      elseif #listed < limit then
        expired[#expired + 1] = member
      end
    end
  end
  for _, member in ipairs(expired) do
    remove_conversation(p, member)
  end
  return listed
end

-- Shared: return a score that puts a member of a sorted set after all others: `clock`, unless that is behind. So the order
-- is the order of the calls, whatever the clock says.
local function last_score(key, clock)
  local last = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
  return math.max(clock, last and tonumber(last) + 1 or 0)
end

-- Shared: store a new conversation. `n` numbers its messages and turns. `place` is its member in the user's list, and differs
-- from those of all conversations that had its id before. `swept` is when its messages' time to live was restarted, and
-- `swept_ttl` is the setting's value at that time.
local function create_conversation(p, new)
  local time = redis.call('TIME')
  local member = string.format('%016.0f:', time[1] * 1000000 + time[2]) .. new.id
  local key, ttl = p .. 'conversation:' .. new.id, history_ttl(new.retention_days)
  set_fields(key, {
    id = new.id, title = new.title, system = new.system, model = new.model, metadata = new.metadata,
    head = new.head, revision = new.revision, created_ms = new.created_ms, updated_ms = new.updated_ms,
    place = member, n = 0, messages = 0, cleared = 0, swept = clock_ms(), swept_ttl = ttl,
    retention_days = new.retention_days,
    archived = ARCHIVE and 1 or nil,
  })
  redis.call('PEXPIRE', key, ttl)
  redis.call('ZADD', p .. 'conversations', last_score(p .. 'conversations', clock_ms()), member)
  prolong(p .. 'conversations')
  count_stored(p, new.id, conversation_size(new))
  if ARCHIVE then
    redis.call('DEL', p .. 'deleted:' .. new.id)
    count_archived(p, 1, 0)
    mark_conversation(p, member)
  end
end

-- Shared: tell the instances with clients that watch the user's list that a conversation has changed. The channel is that of
-- `store.api.list_channel`: the prefix has the user in its hash tag.
local function publish_change(p, id)
  redis.call(PUBLISH, CHANNEL .. 'list:' .. string.match(p, '{@(.*)}:$'), id)
end

-- Shared: raise the revision, move the conversation to the top of the list, and restart its time to live. Messages live
-- longer, so their time to live has to be restarted only from time to time, and when that of the conversation has a new value.
local function touch_conversation(p, id, now_ms)
  local key = p .. 'conversation:' .. id
  local updated_ms, member, swept, swept_ttl, retention_days, archived, pinned = unpack(
    redis.call('HMGET', key, 'updated_ms', 'place', 'swept', 'swept_ttl', 'retention_days', 'archived', 'pinned'))
  local ttl = history_ttl(retention_days)
  updated_ms = math.max(tonumber(updated_ms), now_ms)
  redis.call('HINCRBY', key, 'revision', 1)
  redis.call('HSET', key, 'updated_ms', updated_ms)
  redis.call('ZADD', p .. 'conversations', last_score(p .. 'conversations', clock_ms()), member)
  for _, name in ipairs({'conversation:' .. id, 'messages:' .. id, 'active:' .. id}) do
    redis.call('PEXPIRE', p .. name, ttl)
  end
  for _, name in ipairs({'conversations', 'sizes', 'stored'}) do
    prolong(p .. name)
  end
  if pinned then
    prolong(p .. 'pinned')
  end
  publish_change(p, id)
  local clock = clock_ms()
  -- A conversation of an earlier version has no `swept_ttl`.
  local slack = message_slack(ttl)
  if tonumber(swept_ttl or 0) ~= ttl or clock - tonumber(swept) >= slack / 2 then
    redis.call('HSET', key, 'swept', clock, 'swept_ttl', ttl)
    -- With an archive, older messages may expire: it has them.
    for _, message in ipairs(redis.call('ZRANGE', p .. 'messages:' .. id, ARCHIVE and -SWEPT_MAX or 0, -1)) do
      if not (ARCHIVE and redis.call('ZSCORE', p .. 'outbox', 'm:' .. message)) then
        redis.call('PEXPIRE', p .. 'message:' .. message, ttl + slack)
      end
    end
  end
  if ARCHIVE then
    if not archived then
      mark_earlier_messages(p, member)
    end
    redis.call('HDEL', key, 'listed')
    mark_conversation(p, member)
  end
end

-- Shared: pin a conversation or not, without moving it in the list. Returns false if `pinned_max` are pinned already.
-- `listed` keeps its place in the archive's list, which is ordered by the number of the last change: until the next one, that
-- number is made of its place here.
local function set_pinned(p, id, is_pinned, pinned_max)
  local key, list = p .. 'conversation:' .. id, p .. 'pinned'
  if not is_pinned then
    redis.call('HDEL', key, 'pinned')
    redis.call('SREM', list, id)
  elseif not redis.call('HGET', key, 'pinned') then
    for _, other in ipairs(redis.call('SMEMBERS', list)) do
      if not ARCHIVE and redis.call('EXISTS', p .. 'conversation:' .. other) == 0 then
        redis.call('SREM', list, other)
      end
    end
    if redis.call('SCARD', list) >= pinned_max then
      return false
    end
    redis.call('HSET', key, 'pinned', 1)
    redis.call('SADD', list, id)
    prolong(list)
  end
  if ARCHIVE then
    local place, archived = unpack(redis.call('HMGET', key, 'place', 'archived'))
    if not archived then
      mark_earlier_messages(p, place)
    end
    local score = redis.call('ZSCORE', p .. 'conversations', place)
    redis.call('HSETNX', key, 'listed', text_of(tonumber(score or 0) * 1000 + 999))
    mark_conversation(p, place)
  end
  return true
end

-- Shared: return the results of `read` for the user's pinned conversations, most recently changed first, at most `limit`.
-- The list begins after the conversation `before`, or at its start if `before` is ''. Returns nil if `before` doesn't exist.
local function list_pinned(p, limit, before, read)
  local found, before_score = {}, nil
  if before ~= '' then
    local place = redis.call('HGET', p .. 'conversation:' .. before, 'place')
    before_score = place and tonumber(redis.call('ZSCORE', p .. 'conversations', place) or nil)
    if not before_score then
      return nil
    end
  end
  for _, id in ipairs(redis.call('SMEMBERS', p .. 'pinned')) do
    local key = p .. 'conversation:' .. id
    local place = redis.call('HGET', key, 'place')
    local score = place and tonumber(redis.call('ZSCORE', p .. 'conversations', place) or nil)
    if score and (not before_score or score < before_score) then
      found[#found + 1] = {score, key}
    end
  end
  table.sort(found, function(a, b) return a[1] > b[1] end)
  local listed = {}
  for i = 1, math.min(limit, #found) do
    listed[i] = read(found[i][2])
  end
  return listed
end

-- Shared: store a message after the conversation's other messages; do nothing if it exists.
local function add_message(p, id, new)
  local key = p .. 'message:' .. new.id
  if redis.call('EXISTS', key) == 1 then
    return
  end
  set_fields(key, {
    id = new.id, conversation = id, parent = new.parent, role = new.role, created_ms = new.created_ms,
    body = new.body, turn = new.turn,
  })
  local n = redis.call('HINCRBY', p .. 'conversation:' .. id, 'n', 1)
  redis.call('HINCRBY', p .. 'conversation:' .. id, 'messages', 1)
  redis.call('ZADD', p .. 'messages:' .. id, n, new.id)
  count_stored(p, id, #new.body)
  if ARCHIVE then
    if redis.call('HGET', p .. 'conversation:' .. id, 'archived') then
      redis.call('HSET', key, 'number', n)
      mark_message(p, new.id)
    end -- otherwise `mark_earlier` does
  else
    local ttl = conversation_ttl(p, id)
    redis.call('PEXPIRE', key, ttl + message_slack(ttl))
    redis.call('PEXPIRE', p .. 'messages:' .. id, ttl)
  end
end

-- Shared: return the ids of the turns without an ending in a list, which is the user's `running` or a conversation's
-- `active:`, oldest first. Other turns, such as expired ones, are removed from the list.
local function running_turns(p, list)
  local running = {}
  for _, turn in ipairs(redis.call('ZRANGE', p .. list, 0, -1)) do
    if get_fields(p .. 'turn:' .. turn, 'status') == 'running' then
      running[#running + 1] = turn
    else
      redis.call('ZREM', p .. list, turn)
    end
  end
  return running
end

-- Shared: return whether a message belongs to a conversation. The caller has checked that the conversation exists. Messages
-- outlive a conversation that Redis has expired, and its id may have been used again; the list expires with it.
local function has_message(p, id, message)
  return redis.call('ZSCORE', p .. 'messages:' .. id, message) and true or false
end
