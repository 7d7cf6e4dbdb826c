-- Accept a turn: store its id, request, input, conversation and lease.
-- uses: absent, clock, turn_fields, cold, outbox, conversation, limits
-- KEYS[1] the user's prefix. ARGV: the turn as MessagePack, the channel of its conversation, the deadline in ms,
-- 1 to return {'cold', conversation} if the conversation isn't in Redis but may be in the archive.
-- Returns {'exists', turn, whether its conversation exists}, {'accepted', turn, conversation, the input's parent, turns
-- ahead, running groups}, {'conflict'}, {'busy'}, {'not_found', field}, {'limited', limit, ms} or, after the deadline,
-- {'late'}.
-- Records are flat lists of fields. They don't have the request, because the caller has it.
local p, new = KEYS[1], cmsgpack.unpack(ARGV[1])
local turn = p .. 'turn:' .. new.turn
if clock_ms() > tonumber(ARGV[3]) then
  return {'late'}
end

local function accepted(id, input, ahead)
  return {
    'accepted', turn_record(turn), id and redis.call('HGETALL', p .. 'conversation:' .. id) or false,
    input and redis.call('HGET', p .. 'message:' .. input, 'parent') or false, ahead,
    new.limits and running_groups(p, new.turn, new.limits.running) or {},
  }
end

local digest, owner, message, status, seq, conversation, input =
  get_fields(turn, 'digest', 'owner', 'message', 'status', 'seq', 'conversation', 'input')
if digest then
  if digest ~= new.digest then
    return {'conflict'}
  end
  if owner ~= new.owner or message ~= new.message or status ~= 'running' or seq ~= '0' then
    return {'exists', turn_record(turn), in_history(p, turn) and 1 or 0}
  end
  -- This call repeats an earlier one whose reply was lost.
  local ahead = {}
  if conversation and new.on_busy == 'queue' then
    for _, other in ipairs(running_turns(p, 'active:' .. conversation)) do
      if other == new.turn then
        break
      end
      ahead[#ahead + 1] = other
    end
  end
  return accepted(conversation, input, ahead)
end

local named = new.conversation or (new.new_conversation and new.new_conversation.id)
if ARGV[4] == '1' and is_cold(p, named) then
  return {'cold', named}
end
if new.limits then
  local limit, retry_ms = turn_limit(p, new.limits, new)
  if limit then
    return {'limited', limit, retry_ms}
  end
end
local id, parent, revision, ahead = false, nil, 0, {}
if not new.stateless then
  id = new.conversation or new.new_conversation.id
  local key = p .. 'conversation:' .. id
  if not new.new_conversation and redis.call('EXISTS', key) == 0 then
    return not_found('conversation')
  end
  local running = {}
  if new.conversation and new.on_busy ~= 'parallel' then
    running = running_turns(p, 'active:' .. id)
  end
  if new.on_busy == 'reject' and #running > 0 then
    return {'busy'}
  end
  if new.parent and not has_message(p, id, new.parent) then
    return not_found('parent')
  end
  if redis.call('EXISTS', key) == 0 then
    create_conversation(p, new.new_conversation)
  end
  local head, title, cleared = unpack(redis.call('HMGET', key, 'head', 'title', 'cleared'))
  parent = new.parent or head or nil
  if new.on_busy == 'queue' then
    ahead = running
    if #ahead > 0 and not new.parent then
      local answer, accepted_revision = get_fields(p .. 'turn:' .. ahead[#ahead], 'message', 'revision')
      -- If the conversation was cleared after that turn was accepted, the turn's answer isn't the parent.
      parent = tonumber(accepted_revision) > tonumber(cleared) and answer or parent
    end
  end
  if title == '' then
    redis.call('HSET', key, 'title', new.title)
    count_stored(p, id, #new.title)
  end
  if new.limits then -- not if a turn that the store had lost is accepted again
    if new.retention_days then
      redis.call('HSET', key, 'retention_days', new.retention_days)
    else
      redis.call('HDEL', key, 'retention_days')
    end
  end
  touch_conversation(p, id, new.now_ms)
  revision = tonumber(redis.call('HGET', key, 'revision'))
  if new.input then
    new.input.parent = parent
    add_message(p, id, new.input)
    parent = new.input.id
  end
  redis.call('ZADD', p .. 'active:' .. id, redis.call('HINCRBY', key, 'n', 1), new.turn)
  redis.call('PEXPIRE', p .. 'active:' .. id, conversation_ttl(p, id))
end

set_fields(turn, {
  turn = new.turn, conversation = id or nil, digest = new.digest, request = new.request, epoch = new.epoch,
  owner = new.owner, status = 'running', message = new.message, input = new.input and new.input.id,
  place = id and redis.call('HGET', p .. 'conversation:' .. id, 'place') or nil, parent = parent, model = new.model,
  seq = 0, base = 0, epochs = text_of(new.epoch) .. ':0;',
  accepted_ms = new.now_ms, revision = revision, lease = clock_ms() + new.lease_ms,
  queues = id and new.on_busy == 'queue' and 1 or nil,
})
redis.call('PEXPIRE', turn, RUNNING_TTL_MS)
redis.call('ZADD', p .. 'running', last_score(p .. 'running', clock_us()), new.turn)
redis.call('PEXPIRE', p .. 'running', RUNNING_TTL_MS)
if new.limits then
  count_start(p, new.limits)
end
if id then
  redis.call(PUBLISH, CHANNEL .. ARGV[2], new.turn)
end
return accepted(id, new.input and new.input.id, ahead)
