-- Sends the requests of a file, one after the other, over all connections. The file: a line with a length, then so many
-- bytes; and again. REQUESTS names it; EVERY_US, if set, is the time between two requests, whenever they are answered.
local requests, turn = {}, 0

function init()
    local file = assert(io.open(os.getenv("REQUESTS"), "rb"))
    for length in function() return file:read("*l") end do
        requests[#requests + 1] = file:read(tonumber(length))
    end
    file:close()
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

local every = tonumber(os.getenv("EVERY_US") or "")
if every then
    local ffi = require("ffi")
    ffi.cdef([[
        typedef struct { long seconds; long microseconds; } moment;
        int gettimeofday(moment *now, void *zone);
    ]])
    local moment = ffi.new("moment")
    local due = 0

    -- Milliseconds until the next request is due. wrk asks before each; one that is late is sent at once.
    function delay()
        ffi.C.gettimeofday(moment, nil)
        local now = tonumber(moment.seconds) * 1e6 + tonumber(moment.microseconds)
        due = math.max(due + every, now)
        return math.floor((due - now) / 1000 + 0.5)
    end
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_ms":%.4f,"p99_ms":%.4f}',
        summary.requests, summary.duration / 1e6, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
