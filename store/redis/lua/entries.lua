-- Shared: compare an entry, with events `first` to `last`, to a log that ends at `seq`, whose events up to `base` are
-- of older epochs. Returns 'new' (it continues the log), 'stored' (it is in the log already) or 'gap'.
local function check_entry(log, epoch, first, last, entry, seq, base)
  if first == seq + 1 and last >= first then
    return 'new'
  end
  if first <= base or last > seq or last < first then
    return 'gap'
  end
  local id = epoch .. '-' .. text_of(last)
  local stored = redis.pcall('XRANGE', log, id, id)
  -- A repeated entry may cover another range; for the same range it must be the same entry.
  if #stored == 1 and tonumber(stored[1][2][2]) == first and stored[1][2][4] ~= entry then
    return 'gap'
  end
  return 'stored'
end

-- Shared: delete a turn's log that is damaged or lost. The turn's owner has all of it, gets 'gap' and writes it again.
-- An instance that claims the turn starts the turn again.
local function reset_log(turn, log, epochs)
  redis.call('UNLINK', log)
  redis.call('HSET', turn, 'seq', 0, 'base', 0, 'epochs', epochs)
end

-- Shared: write a new entry and publish it on the turn's channel. Only the first entry creates the log. XADD fails if
-- the log is lost, if its key has another type, or if it has a later entry: ids grow with epoch and seq. Then the log is
-- reset. Returns whether the entry was written.
local function write_entry(turn, log, epoch, first, last, entry, channel)
  -- This HDEL removes nothing, but a full Redis allows it, and then allows the rest of the script too. So running turns
  -- can end, and only new turns are refused.
  redis.call('HDEL', turn, 'none')
  local id = epoch .. '-' .. text_of(last)
  local added
  if first == 1 then
    added = redis.pcall('XADD', log, id, 'first', first, 'entry', entry)
  else
    added = redis.pcall('XADD', log, 'NOMKSTREAM', id, 'first', first, 'entry', entry)
  end
  if type(added) ~= 'string' then
    reset_log(turn, log, epoch .. ':0;')
    return false
  end
  redis.call('HSET', turn, 'seq', last)
  if first == 1 then
    redis.call('PEXPIRE', log, RUNNING_TTL_MS)
  end
  redis.call(PUBLISH, CHANNEL .. channel, entry)
  return true
end
