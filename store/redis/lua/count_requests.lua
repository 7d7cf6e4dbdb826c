-- Count requests of a user that an instance has let through, for the rate limit.
-- uses: clock
-- KEYS[1] the time when the user's next request is due, in µs. ARGV: number of requests, µs since the first of them,
-- µs between two requests.
-- Returns how many µs ahead of now the next request is due.
local now_us = clock_us()
local due_us = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now_us - ARGV[2]) + ARGV[1] * ARGV[3]
if due_us > now_us then
  redis.call('SET', KEYS[1], text_of(due_us), 'PX', math.ceil((due_us - now_us) / 1000))
end
return math.floor(due_us - now_us)
