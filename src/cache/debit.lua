-- name: debit what a client was admitted, and tell the theoretical arrival time of its next request
-- KEYS: the client's. ARGV, microseconds: the present, what is debited, how far ahead of the present the time may be.
-- The sums are those of src/domain/gcra.rs. What is there and is no time, or is past, counts for nothing.
local now, cost, most_ahead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local held = tonumber(redis.pcall('GET', KEYS[1]))
if not (held and held >= now) then
    held = now
end
local tat = math.min(math.min(held, now + most_ahead) + cost, now + most_ahead)
-- A second longer than it counts: clocks differ a little.
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000) + 1000)
return tat
