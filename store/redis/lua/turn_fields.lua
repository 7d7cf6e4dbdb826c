-- Shared: some fields of a turn. Where somebody wrote something else in its place it counts as lost, and that goes.
local function kept_of(turn, ...)
  local kept = redis.pcall('HMGET', turn, ...)
  if kept.err and string.find(kept.err, 'WRONGTYPE', 1, true) then
    redis.call('UNLINK', turn)
  end
  return kept.err and redis.call('HMGET', turn, ...) or kept
end
