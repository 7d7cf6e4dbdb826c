-- Shared: return the time of Redis' clock in ms since 1970.
local function clock_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Shared: return the time of Redis' clock in µs since 1970.
local function clock_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Shared: return an integer as text; plain concatenation would round large integers.
local function text_of(number)
  return string.format('%.0f', number)
end
