-- Sends the requests of a file: lines "T token", then lines "method, path, number of a token (0:
-- none), body", separated by tabs. Queries are asked again and again; a command is sent once, with
-- an Idempotency-Key of its own. At the end prints what benchmarks/http/wrk.py reads.

local requests, once, threads, shown = {}, false, {}, false
sent = 0

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  local run, tokens = arguments[2], {}
  for line in io.lines(arguments[1]) do
    local token = line:match("^T (.*)$")
    if token then
      table.insert(tokens, token)
    else
      local method, path, number, body = line:match("^(%S+)\t(%S+)\t(%d+)\t(.*)$")
      local headers = {}
      if number ~= "0" then headers["Authorization"] = "Bearer " .. tokens[tonumber(number)] end
      if method ~= "GET" then
        once = true
        headers["Content-Type"] = "application/json"
        headers["Prefer"] = "respond-async"
        headers["Idempotency-Key"] = run .. "-" .. #requests
      end
      table.insert(requests, wrk.format(method, path, headers, body ~= "" and body or nil))
    end
  end
end

function request()
  if not shown then  -- wrk looks at one request before it begins, and does not send it
    shown = true
    return requests[1]
  end
  if once and sent == #requests then
    exhausted = true
    wrk.thread:stop()
    return requests[sent]
  end
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

function done(summary, latency)
  local quantiles = {}
  for thousandth = 1, 1000 do
    table.insert(quantiles, string.format("%d", latency:percentile((thousandth - 0.5) / 10)))
  end
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "microseconds": %d, "not_2xx": %d, "broken": %d, "exhausted": %s, '
      .. '"quantiles": [%s]}\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    threads[1]:get("exhausted") and "true" or "false", table.concat(quantiles, ",")))
end
