-- The circuit breaker of an editor, shared by all processes. Instants in milliseconds.
-- KEYS: the editor's hash. ARGV: action, now, then
--   admit: how long one trial call may take          → 1: ask, 0: do not
--   ok: dropped slots by reason (JSON)
--   failed: error, failures in a row that open it, pause, longest pause
local key, action, now = KEYS[1], ARGV[1], tonumber(ARGV[2])
local open_until = tonumber(redis.call('HGET', key, 'open_until') or '0')
if action == 'admit' then
    if open_until == 0 then return 1 end
    if now < open_until then return 0 end
    -- one call finds out whether it is back; the others wait for what comes of it
    redis.call('HSET', key, 'open_until', now + tonumber(ARGV[3]), 'trial', 1)
    return 1
end
redis.call('HINCRBY', key, 'asked', 1)
if action == 'ok' then
    redis.call('HSET', key, 'last_ok', now, 'failures', 0, 'opened', 0, 'open_until', 0, 'trial', 0, 'dropped', ARGV[3])
    redis.call('HDEL', key, 'silent_since', 'error')
    return 1
end
local failures = redis.call('HINCRBY', key, 'failures', 1)
redis.call('HSETNX', key, 'silent_since', redis.call('HGET', key, 'last_ok') or now)
redis.call('HSET', key, 'error', ARGV[3])
-- calls that were under way when it opened do not lengthen the pause
if failures >= tonumber(ARGV[4]) and (open_until == 0 or redis.call('HGET', key, 'trial') == '1') then
    local opened = redis.call('HINCRBY', key, 'opened', 1)
    local pause = math.min(tonumber(ARGV[5]) * 2 ^ (opened - 1), tonumber(ARGV[6]))
    redis.call('HSET', key, 'open_until', now + pause, 'trial', 0)
end
return 0
