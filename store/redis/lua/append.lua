-- Append an entry to a turn's log.
-- uses: clock, turn_fields, entries
-- KEYS[1] the user's prefix. ARGV: turn, epoch, first, last, encoded entry, channel.
-- Returns the log's end if the entry is stored and there is no cancel request, else {outcome, end, cancel request}.
local turn = KEYS[1] .. 'turn:' .. ARGV[1]
local log = KEYS[1] .. 'log:' .. ARGV[1]
local kept = kept_of(turn, 'epoch', 'seq', 'base', 'status', 'cancel')
if not kept[1] then
  return {'missing', 0, false}
end
local seq = tonumber(kept[2])
if kept[1] ~= ARGV[2] then
  return {'fenced', seq, kept[5]}
end
local first, last = tonumber(ARGV[3]), tonumber(ARGV[4])
local outcome = judge_entry(log, ARGV[2], first, last, ARGV[5], seq, tonumber(kept[3]))
if outcome == 'new' then
  if kept[4] ~= 'running' then
    return {'fenced', seq, kept[5]}
  end
  if write_entry(turn, log, ARGV[2], first, last, ARGV[5], ARGV[6]) then
    seq, outcome = last, 'stored'
  else
    seq, outcome = 0, 'gap'
  end
end
if outcome == 'stored' and not kept[5] then
  return seq
end
return {outcome, seq, kept[5]}
