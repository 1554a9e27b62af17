-- name: keep an answer, unless a newer one is known, and give up the right to make it
-- KEYS: entry, last known, lock. ARGV: the entry, milliseconds it lives, milliseconds it is known, offset of its time,
-- the visitor's token, the latest time that is believed, microseconds.
-- Returns 1 if it was kept.
if redis.pcall('GET', KEYS[3]) == ARGV[5] then
    redis.call('DEL', KEYS[3])
end
-- As a number: texts compare as the language of Redis' machine orders them, 'a' before 'A'.
local function time(bytes)
    local number = 0
    for at = 1, 8 do
        number = number * 256 + string.byte(bytes, at)
    end
    return number
end
-- An answer that took long must not undo one that was made after it began. What seems to be of the future is no entry, or
-- from before a clock was set back: it would keep out every answer until then.
local from, to = tonumber(ARGV[4]), tonumber(ARGV[4]) + 7
local known = redis.pcall('GETRANGE', KEYS[2], from, to)
if type(known) == 'string' and #known == 8 then
    known = time(known)
    if known > time(string.sub(ARGV[1], from + 1, to + 1)) and known <= tonumber(ARGV[6]) then
        return 0
    end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
return 1
