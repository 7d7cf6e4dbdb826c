-- End a turn: store its last events, its answer, its usage and its ending.
-- uses: absent, clock, turn_fields, cold, entries, outbox, conversation, limits
-- KEYS[1] the user's prefix. ARGV: the ending as MessagePack, the encoded entry, the turn's channel, 1 to return
-- {'cold', conversation} if the conversation isn't in Redis but may be in the archive.
-- Returns {'ok', conversation}, {'not_found', field}, {'fenced'} or {'gap', end}.
local p, ended = KEYS[1], cmsgpack.unpack(ARGV[1])
local turn, log = p .. 'turn:' .. ended.turn, p .. 'log:' .. ended.turn
local epoch, seq, base, status, conversation, revision =
  get_fields(turn, 'epoch', 'seq', 'base', 'status', 'conversation', 'revision')
if not epoch then
  return not_found('turn')
end
if epoch ~= text_of(ended.epoch) then
  return {'fenced'}
end
local id = conversation_of(p, turn)
local key = id and p .. 'conversation:' .. id
if ARGV[4] == '1' and conversation and is_cold(p, conversation) then
  return {'cold', conversation}
end
if status ~= 'running' then
  return {'ok', key and redis.call('HGETALL', key)}
end
local events = ended.events
seq = tonumber(seq)
local outcome = 'stored' -- there are no events if the log has the ending already
if events.last ~= seq or events.first ~= seq + 1 then
  outcome = check_entry(log, epoch, events.first, events.last, ARGV[2], seq, tonumber(base))
end
if outcome == 'gap' then
  return {'gap', seq}
end

if outcome == 'new' and not write_entry(turn, log, epoch, events.first, events.last, ARGV[2], ARGV[3]) then
  return {'gap', 0}
end
-- This HDEL frees memory, and a full Redis allows it, so it goes before the commands that need memory: see `write_entry`.
redis.call('HDEL', turn, 'request', 'lease')
redis.call('ZREM', p .. 'running', ended.turn)
redis.call('HSET', turn, 'status', ended.status, 'ending', ended.ending)
if id then
  redis.call('ZREM', p .. 'active:' .. id, ended.turn)
  touch_conversation(p, id, ended.now_ms)
  add_message(p, id, ended.answer)
  if tonumber(redis.call('HGET', key, 'cleared')) < tonumber(revision) then
    redis.call('HSET', key, 'head', ended.answer.id)
  end
elseif not conversation then
  redis.call('HSET', turn, 'stateless_message', ended.answer.body)
end

local member = {ended.turn, epoch, key and redis.call('HGET', key, 'place')}
for i, name in ipairs({COUNTERS}) do
  local value = ended.usage[name]
  member[i + 3] = value or false
  if value then
    redis.call('HINCRBY', p .. 'totals', name, value)
    if id then
      redis.call('HINCRBY', key, name, value)
    end
  end
end
if ARCHIVE then
  member[#member + 1] = 1 -- it is no usage from the time before an archive was set
end
redis.call('ZADD', p .. 'usage', ended.now_ms, cmsgpack.pack(member))
redis.call('ZREMRANGEBYSCORE', p .. 'usage', '-inf', ended.now_ms - USAGE_TTL_MS)
redis.call('PEXPIRE', p .. 'usage', USAGE_TTL_MS)
redis.call('PEXPIRE', p .. 'totals', USAGE_TTL_MS)
count_day(p, ended.usage, ended.now_ms)
if ARCHIVE then
  -- The entry has what the archive needs: the turn may expire before.
  local entry = {ended.turn, id or false, member[3] or false, redis.call('HGET', turn, 'model'), ended.status, ended.now_ms}
  mark(p, 't:' .. cmsgpack.pack({entry, {unpack(member, 4, #member - 1)}}))
end
redis.call('DEL', p .. 'attached:' .. ended.turn)
redis.call('PEXPIRE', turn, TURN_TTL_MS)
redis.call('PEXPIRE', log, LOG_TTL_MS)
return {'ok', key and redis.call('HGETALL', key)}
