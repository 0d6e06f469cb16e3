-- wrk: POST the file named first as a body of the Content-Type named second; at the end, one line of JSON.
local percentiles = { 50, 95, 99 }

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  wrk.headers["Content-Type"] = args[2]
  file:close()
end

function done(summary, latency, requests)
  local parts = {}
  for _, p in ipairs(percentiles) do
    parts[#parts + 1] = string.format('"p%d_us": %.1f', p, latency:percentile(p))
  end
  local e = summary.errors
  io.write(string.format(
    '\nwrk-result {"requests": %d, "duration_us": %d, "bytes": %d, "status_errors": %d, "connect_errors": %d, ' ..
    '"read_errors": %d, "write_errors": %d, "timeouts": %d, %s}\n',
    summary.requests, summary.duration, summary.bytes, e.status, e.connect, e.read, e.write, e.timeout,
    table.concat(parts, ", ")))
end
