-- name: give up the right to make an answer
-- KEYS: lock. ARGV: the visitor's token.
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
