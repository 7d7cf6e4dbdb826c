-- Shared: return when the user's next start is due by the rate limit, in µs since 1970. `starts` has that time.
local function due_us(p, now_us)
  return math.max(tonumber(redis.call('GET', p .. 'starts') or 0), now_us)
end

-- Shared: return the key of the user's usage on the day of `now_ms`.
local function day_key(p, now_ms)
  return p .. 'day:' .. text_of(math.floor(now_ms / DAY_MS))
end

-- Shared: return the number of the user's conversations and their bytes. With an archive, those that only the
-- archive has count too.
local function stored_of(p)
  local conversations, stored = redis.call('ZCARD', p .. 'conversations'), tonumber(redis.call('GET', p .. 'stored') or 0)
  if ARCHIVE then
    local archived = redis.call('HMGET', p .. 'archived', 'conversations', 'stored_bytes')
    return math.max(conversations, tonumber(archived[1] or 0)), math.max(stored, tonumber(archived[2] or 0))
  end
  return conversations, stored
end

-- Shared: return the limit that refuses `added_bytes` more bytes or, with `adds_conversation`, one more conversation; nil
-- if none does. Conversations that Redis has expired meanwhile don't count. Those that expired early, because of a retention of
-- their own, are looked for only before a call is refused.
local function storage_limit(p, limits, added_bytes, adds_conversation)
  if limits.conversations == 0 and limits.stored_bytes == 0 then
    return
  end
  local limit
  for _, range in ipairs({{clock_ms() - history_ttl(false), 100}, {'+inf', 2000}}) do
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', p .. 'conversations', '-inf', range[1], 'LIMIT', 0, range[2])) do
      if redis.call('EXISTS', p .. 'conversation:' .. string.sub(member, 18)) == 0 then
        remove_conversation(p, member)
      end
    end
    local conversations, stored = stored_of(p)
    limit = nil
    if adds_conversation and limits.conversations > 0 and conversations >= limits.conversations then
      limit = 'conversations'
    elseif limits.stored_bytes > 0 and stored + added_bytes > limits.stored_bytes then
      limit = 'stored_bytes'
    end
    if not limit then
      return
    end
  end
  return limit
end

-- Shared: return whether a request of `size` bytes and those of the user's running turns exceed `live_bytes`.
local function exceeds_live_bytes(p, limits, size)
  local sum = size
  for _, turn in ipairs(redis.call('ZRANGE', p .. 'running', 0, -1)) do
    sum = sum + redis.call('HSTRLEN', p .. 'turn:' .. turn, 'request')
  end
  return sum > limits.live_bytes
end

-- Shared: return the limit that refuses a new turn, and the ms until that is over, or false if that isn't known.
local function turn_limit(p, limits, new)
  local conversation, now_ms = new.conversation, new.now_ms
  if limits.live > 0 and redis.call('ZCARD', p .. 'running') >= limits.live
    and #running_turns(p, 'running') >= limits.live then
    return 'live', false
  end
  if limits.live_bytes > 0 and exceeds_live_bytes(p, limits, #new.request) then
    return 'live_bytes', false
  end
  local creates = new.new_conversation and redis.call('EXISTS', p .. 'conversation:' .. new.new_conversation.id) == 0
  local storage = not new.stateless and storage_limit(p, limits, new.input and #new.input.body or 0, creates)
  if storage then
    return storage, false
  end
  local until_midnight_ms = DAY_MS - now_ms % DAY_MS
  local tokens, cost_nano = unpack(redis.call('HMGET', day_key(p, now_ms), 'tokens', 'cost_nano'))
  if limits.tokens_per_day > 0 and tonumber(tokens or 0) >= limits.tokens_per_day then
    return 'tokens_per_day', until_midnight_ms
  end
  if limits.cost_nano_per_day > 0 and tonumber(cost_nano or 0) >= limits.cost_nano_per_day then
    return 'cost_per_day', until_midnight_ms
  end
  if limits.conversation_tokens > 0 and conversation then
    local input, output = unpack(redis.call('HMGET', p .. 'conversation:' .. conversation, 'input_tokens', 'output_tokens'))
    if tonumber(input or 0) + tonumber(output or 0) >= limits.conversation_tokens then
      return 'conversation_tokens', false
    end
  end
  if limits.start_interval_us > 0 then
    local now_us = clock_us()
    local wait_us = due_us(p, now_us) - now_us - (limits.start_burst - 1) * limits.start_interval_us
    if wait_us > 0 then
      return 'starts', math.ceil(wait_us / 1000)
    end
  end
end

-- Shared: count the start of an accepted turn for the rate limit.
local function count_start(p, limits)
  if limits.start_interval_us > 0 then
    local now_us = clock_us()
    local due = due_us(p, now_us) + limits.start_interval_us
    redis.call('SET', p .. 'starts', text_of(due), 'PX', math.ceil((due - now_us) / 1000) + 1)
  end
end

-- Shared: add the usage of an ended turn to the day of its ending.
local function count_day(p, usage, now_ms)
  local day = day_key(p, now_ms)
  redis.call('HINCRBY', day, 'tokens', usage.input_tokens + usage.output_tokens)
  redis.call('HINCRBY', day, 'cost_nano', usage.cost_nano or 0)
  redis.call('PEXPIRE', day, 2 * DAY_MS)
end

-- Shared: return the groups of the user's turns before `turn`; see `TurnStore.running_groups`.
local function running_groups(p, turn, running_max)
  if running_max == 0 or redis.call('ZCARD', p .. 'running') < running_max then
    return {}
  end
  local groups, group_of = {}, {}
  for _, other in ipairs(running_turns(p, 'running')) do
    if other == turn then
      break
    end
    local conversation, queues = get_fields(p .. 'turn:' .. other, 'conversation', 'queues')
    local group = queues and group_of[conversation]
    if not group then
      group = {}
      groups[#groups + 1] = group
    end
    group[#group + 1] = other
    if conversation then
      group_of[conversation] = group
    end
  end
  return #groups < running_max and {} or groups
end
