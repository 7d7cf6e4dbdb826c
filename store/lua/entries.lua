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
  local there = redis.call('XRANGE', log, id, id)
  -- The same events may have been cut otherwise; cut in the same way they have to be the same.
  if #there == 1 and tonumber(there[1][2][2]) == first and there[1][2][4] ~= entry then
    return 'gap'
  end
  return 'stored'
end

-- Shared: write a new entry and tell the turn's channel. The id only grows with epoch and seq, so Redis itself
-- refuses what a former owner writes.
local function write_entry(turn, log, epoch, first, last, entry, channel)
  -- A command that frees memory goes first: a full Redis then lets the rest of the script through, so that what
  -- runs can end; only new turns are refused.
  redis.call('HDEL', turn, 'none')
  redis.call('XADD', log, epoch .. '-' .. text_of(last), 'first', first, 'entry', entry)
  redis.call('HSET', turn, 'seq', last)
  if first == 1 then
    redis.call('PEXPIRE', log, RUNNING_MS)
  end
  redis.call('PUBLISH', CHANNEL .. channel, entry)
end
