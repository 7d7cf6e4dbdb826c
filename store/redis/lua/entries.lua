-- Shared: what an entry of `first` … `last` would be to a log that ends at `seq`, the events up to `base` being of
-- older epochs: 'new', 'stored' (it is in the log already) or 'gap'.
local function judge_entry(log, epoch, first, last, entry, seq, base)
  if first == seq + 1 and last >= first then
    return 'new'
  end
  if first <= base or last > seq or last < first then
    return 'gap'
  end
  local id = epoch .. '-' .. text_of(last)
  local there = redis.pcall('XRANGE', log, id, id)
  -- The same events may have been cut otherwise; cut in the same way they have to be the same.
  if #there == 1 and tonumber(there[1][2][2]) == first and there[1][2][4] ~= entry then
    return 'gap'
  end
  return 'stored'
end

-- Shared: a turn's log is lost. Its owner, which has all of it, finds a gap and writes it anew; a taker starts again.
local function forget_log(turn, log, epochs)
  redis.call('UNLINK', log)
  redis.call('HSET', turn, 'seq', 0, 'base', 0, 'epochs', epochs)
end

-- Shared: write a new entry and tell the turn's channel. The id only grows with epoch and seq, so Redis itself
-- refuses what a former owner writes. Where the log isn't there, or something else is, it is lost; returns whether it
-- was written.
local function write_entry(turn, log, epoch, first, last, entry, channel)
  -- A command that frees memory goes first: a full Redis then lets the rest of the script through, so that what
  -- runs can end; only new turns are refused.
  redis.call('HDEL', turn, 'none')
  local id = epoch .. '-' .. text_of(last)
  local added
  if first == 1 then
    added = redis.pcall('XADD', log, id, 'first', first, 'entry', entry)
  else
    added = redis.pcall('XADD', log, 'NOMKSTREAM', id, 'first', first, 'entry', entry)
  end
  if type(added) ~= 'string' then
    forget_log(turn, log, epoch .. ':0;')
    return false
  end
  redis.call('HSET', turn, 'seq', last)
  if first == 1 then
    redis.call('PEXPIRE', log, RUNNING_MS)
  end
  redis.call('PUBLISH', CHANNEL .. channel, entry)
  return true
end
