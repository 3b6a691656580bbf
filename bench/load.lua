-- wrk: what to send by the name of the endpoint, and what came back as one JSON object.
-- wrk never retries; a connection that the server closes counts as an error unless it said so.

local order = '{"customer": 7, "items": [{"name": "tea", "price": 2.5, "quantity": 3, "tags": ["green"]},' ..
   ' {"name": "cup", "price": 9.9, "quantity": 1}]}'

function init(args)
   if args[1] == "close" then
      wrk.headers["Connection"] = "close"
   end
   if wrk.path == "/orders" then
      wrk.method, wrk.body = "POST", order
      wrk.headers["Content-Type"] = "application/json"
   end
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "seconds": %.6f, "errors": %d, "p50": %.3f, "p99": %.3f, "p99.9": %.3f}\n',
      summary.requests, summary.duration / 1e6,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3))
end
