-- Apply one change of places to a territory's mirror. Atomic; what is older than what is known changes nothing, in
-- whatever order changes come (a writer that crashed is published later, a rebuild runs beside the news).
-- KEYS: places, left, by-start, traces. ARGV: kind, then per slot
--   published: id, version, seats left, start (epoch s), record   state: id, version, seats left   gone: id, version
-- The seats left and the record have a version each: a new record may come after the state that followed it.
-- Seats are below zero where more were given than the practice now offers.
local TRACE_SECONDS = 3600  -- far above the seconds after which left-behind changes are published
local kind = ARGV[1]
local step = ({published = 5, state = 3, gone = 2})[kind]
local now = tonumber(redis.call('TIME')[1])

-- forget what was only remembered to refuse older news
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, 200)) do
    redis.call('ZREM', KEYS[4], id)
    redis.call('HDEL', KEYS[2], id)
end

for i = 2, #ARGV, step do
    local id, version = ARGV[i], tonumber(ARGV[i + 1])
    local seats, seats_version, record_version = string.match(redis.call('HGET', KEYS[2], id) or '0 0 0', '(%-?%d+) (%d+) (%d+)')
    seats_version, record_version = tonumber(seats_version), tonumber(record_version)
    local fresh = false
    if kind == 'published' and version >= record_version then
        fresh = true
        record_version = version
        redis.call('HSET', KEYS[1], id, ARGV[i + 4])
        redis.call('ZADD', KEYS[3], ARGV[i + 3], id)
        redis.call('ZREM', KEYS[4], id)
    elseif kind == 'gone' and version > record_version then
        fresh = true
        record_version = version
        redis.call('HDEL', KEYS[1], id)
        redis.call('ZREM', KEYS[3], id)
        redis.call('ZADD', KEYS[4], now + TRACE_SECONDS, id)
    end
    if version > seats_version or (kind == 'published' and version == seats_version) then
        fresh = true
        seats = kind == 'gone' and '0' or ARGV[i + 2]
        seats_version = version
        if record_version == 0 then redis.call('ZADD', KEYS[4], now + TRACE_SECONDS, id) end
    end
    if fresh then
        redis.call('HSET', KEYS[2], id, string.format('%s %d %d', seats, seats_version, record_version))
    end
end
