-- Shared: return some fields of a turn, each false if it doesn't exist. If the key has another type, the turn is lost, and
-- the key is deleted.
local function get_fields(turn, ...)
  local fields = redis.pcall('HMGET', turn, ...)
  if fields.err and string.find(fields.err, 'WRONGTYPE', 1, true) then
    redis.call('UNLINK', turn)
  end
  return unpack(fields.err and redis.call('HMGET', turn, ...) or fields)
end

local TURN_FIELDS = {
  'turn', 'conversation', 'digest', 'epoch', 'owner', 'status', 'message', 'input', 'parent', 'model', 'seq', 'accepted_ms',
  'ending', 'stateless_message', 'cancel', 'request',
}

-- Shared: return a turn as a flat list of names and values, empty if it doesn't exist. Its request, up to 20 MiB, is in the
-- list only if `with_request` is true.
local function turn_record(turn, with_request)
  local names = {unpack(TURN_FIELDS, 1, with_request and #TURN_FIELDS or #TURN_FIELDS - 1)}
  local record = {}
  for i, value in ipairs(redis.call('HMGET', turn, unpack(names))) do
    if value then
      record[#record + 1] = names[i]
      record[#record + 1] = value
    end
  end
  return record
end

-- Shared: return the id of a turn's conversation, or false if it has none or the conversation was deleted. A conversation that
-- was created later with the same id has another `place`. A turn of an earlier version has no `place`.
local function conversation_of(p, turn)
  local id, place = get_fields(turn, 'conversation', 'place')
  local found = id and redis.call('HGET', p .. 'conversation:' .. id, 'place')
  return found and (not place or place == found) and id
end
