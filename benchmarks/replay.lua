-- wrk replays prepared requests: REQUESTS names a file of "<length>\n<bytes>" records, SKIP how many to leave out first.
-- THINK: the mean of the milliseconds, drawn evenly from 0 to twice as many, for which a connection waits before each.
-- Prints one JSON line at the end: seconds, requests, bad_status, socket_errors, latencies in ms, and whether it wrapped.

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init()
  requests, position, wrapped = {}, 0, 0
  local skip = tonumber(os.getenv("SKIP") or "0")
  local file = assert(io.open(os.getenv("REQUESTS"), "rb"))
  local seen = 0
  while true do
    local length = file:read("*l")
    if not length then break end
    local bytes = file:read(tonumber(length))
    seen = seen + 1
    if seen > skip then requests[#requests + 1] = bytes end
  end
  file:close()
end

function request()
  position = position + 1
  if position > #requests then
    position, wrapped = 1, 1
  end
  return requests[position]
end

local think = tonumber(os.getenv("THINK") or "0")
if think > 0 then
  function delay()
    return math.random(0, 2 * think)
  end
end

function done(summary, latency)
  local errors = summary.errors
  local wrapped_any = 0
  for _, thread in ipairs(threads) do
    if thread:get("wrapped") == 1 then wrapped_any = 1 end
  end
  print(string.format(
    '{"seconds": %.6f, "requests": %d, "bad_status": %d, "socket_errors": %d, "mean": %.4f, "p50": %.4f, "p95": %.4f, "p99": %.4f, "wrapped": %d}',
    summary.duration / 1e6, summary.requests, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency.mean / 1e3, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3,
    wrapped_any))
end
