-- Shared: return some fields of a turn. If the key has another type, the turn is lost, and the key is deleted.
local function kept_of(turn, ...)
  local kept = redis.pcall('HMGET', turn, ...)
  if kept.err and string.find(kept.err, 'WRONGTYPE', 1, true) then
    redis.call('UNLINK', turn)
  end
  return kept.err and redis.call('HMGET', turn, ...) or kept
end

local TURN_FIELDS = {
  'turn', 'conversation', 'digest', 'epoch', 'owner', 'status', 'message', 'input', 'parent', 'model', 'seq', 'accepted_ms',
  'ending', 'stateless_message', 'cancel', 'request',
}

-- Return a turn as a flat list of names and values, empty if it isn't kept. Its request, up to 20 MiB, only on demand.
local function turn_record(turn, with_request)
  local names = {unpack(TURN_FIELDS, 1, with_request and #TURN_FIELDS or #TURN_FIELDS - 1)}
  local record = {}
  for at, value in ipairs(redis.call('HMGET', turn, unpack(names))) do
    if value then
      record[#record + 1] = names[at]
      record[#record + 1] = value
    end
  end
  return record
end
