-- Check whether another instance has, or may have, connections attached to a turn. If the turn is lost, its presence is
-- lost too, so another instance may have some.
-- uses: clock
-- KEYS[1] the user's prefix. ARGV: turn, the calling instance.
-- Returns 1 or 0.
if redis.call('EXISTS', KEYS[1] .. 'turn:' .. ARGV[1]) == 0 then
  return 1
end
for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1] .. 'attached:' .. ARGV[1], '(' .. text_of(clock_ms()), '+inf')) do
  if other ~= ARGV[2] then
    return 1
  end
end
return 0
