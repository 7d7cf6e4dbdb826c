-- One turn.
-- uses: clock
-- KEYS[1] the user's prefix. ARGV: turn.
-- Returns {fields, whether its conversation is there, whether its lease has lapsed}; no fields where it isn't kept.
local kept = redis.call('HGETALL', KEYS[1] .. 'turn:' .. ARGV[1])
local known = redis.call('HMGET', KEYS[1] .. 'turn:' .. ARGV[1], 'conversation', 'status', 'lease')
local there = known[1] and redis.call('EXISTS', KEYS[1] .. 'conversation:' .. known[1]) or 0
local lapsed = known[2] == 'running' and tonumber(known[3]) <= clock_ms()
return {kept, there, lapsed and 1 or 0}
