-- Give new numbers, in order, to entries of the user's outbox whose numbers the archive takes for old ones.
-- uses: clock, outbox
-- KEYS[1] the user's prefix. ARGV: the last change that the archive has applied, maximum number of entries.
-- Returns the number of entries with new numbers.
local p = KEYS[1]
if tonumber(redis.call('GET', p .. 'change') or 0) < tonumber(ARGV[1]) then
  redis.call('SET', p .. 'change', ARGV[1])
end
local members = redis.call('ZRANGEBYSCORE', p .. 'outbox', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, member in ipairs(members) do
  mark(p, member)
end
return #members
