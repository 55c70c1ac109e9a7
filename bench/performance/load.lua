-- wrk's script: sends prepared requests in turn until the time or their number is up, then lets what is under way be answered.
-- wrk itself would hang up on it, and the counts of calls, answers and rows could not be equal.
local ffi = require("ffi")
ffi.cdef[[
    typedef struct { long seconds; long nanoseconds; } moment;
    int clock_gettime(int clock, moment *now);
]]
local MONOTONIC = 1
local FOREVER_MILLISECONDS = 1e9
local moment = ffi.new("moment")
local requests, next_request = {}, 0
local deadline, most, begun = nil, nil, 0
local connections, idle = 0, 0

local function now()
    ffi.C.clock_gettime(MONOTONIC, moment)
    return tonumber(moment.seconds) + tonumber(moment.nanoseconds) * 1e-9
end

-- The arguments: seconds, the most requests, connections, and a file with whole requests, a NUL byte after each.
function init(arguments)
    deadline = now() + tonumber(arguments[1])
    most = tonumber(arguments[2])
    connections = tonumber(arguments[3])
    local file = assert(io.open(arguments[4], "rb"))
    for request in file:read("*a"):gmatch("%Z+") do
        requests[#requests + 1] = request
    end
    file:close()
end

function request()
    next_request = next_request % #requests + 1
    return requests[next_request]
end

-- Asked by each connection that has nothing under way, before its next request.
function delay()
    if begun < most and now() < deadline then
        begun = begun + 1
        return 0
    end
    idle = idle + 1
    if idle == connections then
        io.write("drained\n")
        io.flush()
    end
    return FOREVER_MILLISECONDS
end

function done(summary, latency)
    local errors = summary.errors
    local line = '{"requests": %d, "mean_us": %.1f, "p50_us": %d, "p99_us": %d, "bad_statuses": %d, "socket_errors": %d}\n'
    io.write(string.format(
        line, summary.requests, latency.mean, latency:percentile(50), latency:percentile(99), errors.status,
        errors.connect + errors.read + errors.write + errors.timeout
    ))
end
