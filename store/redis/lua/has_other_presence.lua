-- Whether another instance has connections attached to a turn, or may have: of a lost turn that is lost, too.
-- uses: clock
-- KEYS[1] the user's prefix. ARGV: turn, the instance that asks.
if redis.call('EXISTS', KEYS[1] .. 'turn:' .. ARGV[1]) == 0 then
  return 1
end
for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1] .. 'attached:' .. ARGV[1], '(' .. text_of(clock_ms()), '+inf')) do
  if other ~= ARGV[2] then
    return 1
  end
end
return 0
