-- Shared: raise a READONLY error if this server is a replica. After a failover it may lag behind its master, so only a server
-- that accepts writes may say that something doesn't exist. The key never exists.
local function check_master()
  redis.call('DEL', KEYS[1] .. 'absent')
end

-- Shared: return the reply for something that doesn't exist. `field` is the field of the request that names it.
local function not_found(field)
  check_master()
  return {'not_found', field}
end
