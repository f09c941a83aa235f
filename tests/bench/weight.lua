-- SPDX-License-Identifier: Apache-2.0
-- For wrk: PATCH requests, each with another weight than the one before it. The figures come as one line of JSON.
local n = 0
local patch = os.getenv("BENCH_METHOD") == "PATCH"

request = function()
	if not patch then
		return wrk.format("GET")
	end
	n = n % 1000 + 1
	return wrk.format("PATCH", nil, nil, '{"weight": ' .. n .. "}")
end

done = function(summary, latency)
	local e = summary.errors
	io.write(string.format('{"requests": %d, "seconds": %.6f, "errors": %d, "median_us": %d, "p99_us": %d}\n', summary.requests,
		summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
