-- What a nearest-first service does in Redis: look for the nearest place in time, take its seat, all in one script.
-- KEYS: geo index, hash of starts, hash of seats left. ARGV: lon, lat, km, now, deadline, seconds a kilometre, seconds of base
local near = redis.call('GEOSEARCH', KEYS[1], 'FROMLONLAT', ARGV[1], ARGV[2], 'BYRADIUS', ARGV[3], 'km', 'ASC', 'COUNT', 200, 'WITHDIST')
local now, deadline = tonumber(ARGV[4]), tonumber(ARGV[5])
for _, found in ipairs(near) do
    local id, km = found[1], tonumber(found[2])
    local start = tonumber(redis.call('HGET', KEYS[2], id))
    if start and start <= deadline and start - now >= tonumber(ARGV[7]) + km * tonumber(ARGV[6]) then
        if redis.call('HINCRBY', KEYS[3], id, -1) == 0 then
            redis.call('ZREM', KEYS[1], id)
        end
        return {id, found[2], tostring(start)}
    end
end
return false
