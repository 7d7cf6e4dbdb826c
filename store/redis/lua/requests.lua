-- An instance has let requests of a user through, of those that come at an even pace.
-- uses: clock
-- KEYS[1] when the user's next one is due, in µs. ARGV: how many there were, how long ago the first of them, µs between two.
-- Returns how far ahead of now the next one is due, in µs.
local now_us = clock_us()
local due_us = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now_us - ARGV[2]) + ARGV[1] * ARGV[3]
if due_us > now_us then
  redis.call('SET', KEYS[1], text_of(due_us), 'PX', math.ceil((due_us - now_us) / 1000))
end
return math.floor(due_us - now_us)
