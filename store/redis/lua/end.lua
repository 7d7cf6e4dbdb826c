-- End a turn: store its last events, its answer, its usage and its ending.
-- uses: clock, turn_fields, entries, conversation, limits
-- KEYS[1] the user's prefix. ARGV: the ending as MessagePack, the encoded entry, the turn's channel.
-- Returns {'ok', conversation}, {'not_found', what}, {'fenced'} or {'gap', end}.
local p, ended = KEYS[1], cmsgpack.unpack(ARGV[1])
local turn, log = p .. 'turn:' .. ended.turn, p .. 'log:' .. ended.turn
local kept = kept_of(turn, 'epoch', 'seq', 'base', 'status', 'conversation', 'revision')
if not kept[1] then
  return {'not_found', 'turn'}
end
local epoch = text_of(ended.epoch)
if kept[1] ~= epoch then
  return {'fenced'}
end
local id = kept[5]
local key = id and p .. 'conversation:' .. id
if key and redis.call('EXISTS', key) == 0 then
  id, key = false, false
end
if kept[4] ~= 'running' then
  return {'ok', key and redis.call('HGETALL', key)}
end
local events, seq = ended.events, tonumber(kept[2])
local outcome = judge_entry(log, epoch, events.first, events.last, ARGV[2], seq, tonumber(kept[3]))
if outcome == 'gap' then
  return {'gap', seq}
end

if outcome == 'new' and not write_entry(turn, log, epoch, events.first, events.last, ARGV[2], ARGV[3]) then
  return {'gap', 0}
end
-- This frees memory, so it goes before the commands that need memory: see `write_entry`.
redis.call('HDEL', turn, 'request', 'lease')
redis.call('ZREM', p .. 'running', ended.turn)
redis.call('HSET', turn, 'status', ended.status, 'ending', ended.ending)
if id then
  redis.call('ZREM', p .. 'active:' .. id, ended.turn)
  touch_conversation(p, id, ended.now_ms)
  add_message(p, id, ended.answer)
  if tonumber(redis.call('HGET', key, 'cleared')) < tonumber(kept[6]) then
    redis.call('HSET', key, 'head', ended.answer.id)
  end
  redis.call('PEXPIRE', p .. 'messages:' .. id, HISTORY_MS)
elseif not kept[5] then
  redis.call('HSET', turn, 'stateless_message', ended.answer.body)
end

local member = {ended.turn, epoch, id}
for at, name in ipairs({COUNTERS}) do
  local value = ended.usage[name]
  member[at + 3] = value or false
  if value then
    redis.call('HINCRBY', p .. 'totals', name, value)
    if id then
      redis.call('HINCRBY', key, name, value)
    end
  end
end
redis.call('ZADD', p .. 'usage', ended.now_ms, cmsgpack.pack(member))
redis.call('ZREMRANGEBYSCORE', p .. 'usage', '-inf', ended.now_ms - USAGE_MS)
redis.call('PEXPIRE', p .. 'usage', USAGE_MS)
redis.call('PEXPIRE', p .. 'totals', USAGE_MS)
count_day(p, ended.usage, ended.now_ms)
redis.call('DEL', p .. 'attached:' .. ended.turn)
redis.call('PEXPIRE', turn, TURN_MS)
redis.call('PEXPIRE', log, LOG_MS)
return {'ok', key and redis.call('HGETALL', key)}
