-- Begin an epoch unless one is in force that this very process of the server knows. Returns the one in force.
-- KEYS: epoch, run. ARGV: the epoch to begin, the server's run id
local known = redis.call('GET', KEYS[1])
if known and redis.call('GET', KEYS[2]) == ARGV[2] then return known end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2])
return ARGV[1]
