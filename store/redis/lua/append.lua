-- Append an entry to a turn's log.
-- uses: clock, turn_fields, entries
-- KEYS[1] the user's prefix. ARGV: turn, epoch, first, last, encoded entry, channel.
-- Returns the log's end if the entry is stored and there is no cancel request, else {outcome, end, cancel request}.
local turn = KEYS[1] .. 'turn:' .. ARGV[1]
local log = KEYS[1] .. 'log:' .. ARGV[1]
local epoch, seq, base, status, cancel = get_fields(turn, 'epoch', 'seq', 'base', 'status', 'cancel')
if not epoch then
  return {'missing', 0, false}
end
seq = tonumber(seq)
if epoch ~= ARGV[2] then
  return {'fenced', seq, cancel}
end
local first, last = tonumber(ARGV[3]), tonumber(ARGV[4])
local outcome = check_entry(log, epoch, first, last, ARGV[5], seq, tonumber(base))
if outcome == 'new' then
  if status ~= 'running' then
    return {'fenced', seq, cancel}
  end
  if write_entry(turn, log, epoch, first, last, ARGV[5], ARGV[6]) then
    seq, outcome = last, 'stored'
  else
    seq, outcome = 0, 'gap'
  end
end
if outcome == 'stored' and not cancel then
  return seq
end
return {outcome, seq, cancel}
