-- Apply one change of places to a territory's mirror. Atomic; older versions change nothing.
-- KEYS: places, left, by-start. ARGV: kind, then per slot
--   published: id, version, seats left, start (epoch s), record   state: id, version, seats left   gone: id, version
local kind = ARGV[1]
local step = ({published = 5, state = 3, gone = 2})[kind]
for i = 2, #ARGV, step do
    local id, version = ARGV[i], tonumber(ARGV[i + 1])
    local known = redis.call('HGET', KEYS[2], id)
    local newest = known and tonumber(string.match(known, ' (%d+)$')) or -1
    if kind == 'published' then
        -- a state may have come before its record while the mirror is being filled: then only the record is missing
        if version >= newest or redis.call('HEXISTS', KEYS[1], id) == 0 then
            redis.call('HSET', KEYS[1], id, ARGV[i + 4])
            redis.call('ZADD', KEYS[3], ARGV[i + 3], id)
        end
        if version >= newest then redis.call('HSET', KEYS[2], id, ARGV[i + 2] .. ' ' .. ARGV[i + 1]) end
    elseif kind == 'state' then
        if version > newest then redis.call('HSET', KEYS[2], id, ARGV[i + 2] .. ' ' .. ARGV[i + 1]) end
    elseif version >= newest then
        redis.call('HDEL', KEYS[1], id)
        redis.call('HDEL', KEYS[2], id)
        redis.call('ZREM', KEYS[3], id)
    end
end
