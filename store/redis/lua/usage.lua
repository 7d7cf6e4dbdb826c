-- Return the sums over the user's ended turns.
-- uses: absent
-- KEYS[1] the user's prefix. ARGV: conversation ('' for all), since in ms ('' for all).
-- Returns {'ok', sums as text in the order of the counters} or {'not_found', field}.
local p, sums, names = KEYS[1], {}, {COUNTERS}
local key = p .. 'conversation:' .. ARGV[1]
if ARGV[1] ~= '' and redis.call('EXISTS', key) == 0 then
  return not_found('conversation')
end
if ARGV[2] == '' then
  return {'ok', redis.call('HMGET', ARGV[1] == '' and p .. 'totals' or key, unpack(names))}
end
for i = 1, #names do
  sums[i] = false
end
-- An entry names its conversation by the place; an entry of an earlier version by the id.
local place = redis.call('HGET', key, 'place')
for _, member in ipairs(redis.call('ZRANGEBYSCORE', p .. 'usage', ARGV[2], '+inf')) do
  local turn = cmsgpack.unpack(member)
  if ARGV[1] == '' or turn[3] == place or turn[3] == ARGV[1] then
    for i = 1, #names do
      if turn[i + 3] then
        sums[i] = (sums[i] or 0) + turn[i + 3]
      end
    end
  end
end
for i = 1, #names do
  sums[i] = sums[i] and string.format('%.0f', sums[i])
end
return {'ok', sums}
