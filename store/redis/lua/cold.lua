-- Shared: return whether a conversation isn't in Redis but may be in the archive, because it wasn't deleted.
local function is_cold(p, id)
  return id and ARCHIVE and redis.call('EXISTS', p .. 'conversation:' .. id, p .. 'deleted:' .. id) == 0
end

-- Shared: return whether a turn's conversation exists, here or only in the archive.
local function in_history(p, turn)
  local id, place = get_fields(turn, 'conversation', 'place')
  return conversation_of(p, turn) or is_cold(p, id) and redis.call('EXISTS', p .. 'removed:' .. place) == 0
end
