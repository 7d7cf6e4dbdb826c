-- Whether another instance has connections attached to a turn.
-- uses: clock
-- KEYS[1] the user's prefix. ARGV: turn, the instance that asks.
for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1] .. 'attached:' .. ARGV[1], '(' .. text_of(clock_ms()), '+inf')) do
  if other ~= ARGV[2] then
    return 1
  end
end
return 0
