-- Apply one change of places to a territory's mirror. Atomic; older versions change nothing.
-- KEYS: places, left, by-start. ARGV: kind, then per slot
--   published: id, version, seats left, start (epoch s), record   state: id, version, seats left   gone: id, version
local kind = ARGV[1]
local step = ({published = 5, state = 3, gone = 2})[kind]
for i = 2, #ARGV, step do
    local id, version = ARGV[i], tonumber(ARGV[i + 1])
    local known = redis.call('HGET', KEYS[2], id)
    local newest = known and tonumber(string.match(known, ' (%d+)$')) or -1
    if version > newest or (kind == 'published' and version == newest) then
        if kind == 'published' then
            redis.call('HSET', KEYS[1], id, ARGV[i + 4])
            redis.call('HSET', KEYS[2], id, ARGV[i + 2] .. ' ' .. ARGV[i + 1])
            redis.call('ZADD', KEYS[3], ARGV[i + 3], id)
        elseif kind == 'state' then
            -- a state of a place that is not mirrored says nothing: its record will bring its own
            if known then redis.call('HSET', KEYS[2], id, ARGV[i + 2] .. ' ' .. ARGV[i + 1]) end
        else
            redis.call('HDEL', KEYS[1], id)
            redis.call('HDEL', KEYS[2], id)
            redis.call('ZREM', KEYS[3], id)
        end
    end
end
