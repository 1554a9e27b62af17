-- name: the answer if there is one, otherwise the right to make it
-- KEYS: entry, lock. ARGV: the last byte of an entry that is read, the visitor's token, milliseconds that the lock holds.
-- Returns the entry; or 1: nobody makes it, so the visitor does; or 0: somebody else is at it.
local found = redis.pcall('GETRANGE', KEYS[1], 0, ARGV[1])
if type(found) == 'string' and #found > 0 then
    return found
end
if redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) then
    return 1
end
return 0
