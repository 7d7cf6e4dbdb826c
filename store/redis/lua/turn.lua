-- Return a turn.
-- uses: absent, clock, turn_fields, cold
-- KEYS[1] the user's prefix. ARGV: turn, 1 to return its request too.
-- Returns {fields, whether its conversation exists, whether its lease has expired}; no fields if the turn doesn't exist.
local turn = KEYS[1] .. 'turn:' .. ARGV[1]
local status, lease = get_fields(turn, 'status', 'lease')
if not status then
  check_master()
end
local exists = in_history(KEYS[1], turn) and 1 or 0
local is_expired = status == 'running' and tonumber(lease) <= clock_ms()
return {turn_record(turn, ARGV[2] == '1'), exists, is_expired and 1 or 0}
