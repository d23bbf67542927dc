-- wrk's side of a load: read users at random, or create them; count the answers; report as JSON.
-- wrk -s load.lua URL -- /users/%d ROWS | /users STAMP

local path, argument
created, ok, unavailable, failed = 0, 0, 0, 0
local main

function setup(thread)
  main = thread
end

function init(arguments)
  path, argument = arguments[1], arguments[2]
end

function request()
  if path:find("%d", 1, true) then
    return wrk.format("GET", path:format(math.random(tonumber(argument))))
  end
  created = created + 1
  local body = string.format('{"email": "%s.%d@example.com"}', argument, created)
  return wrk.format("POST", path, { ["Content-Type"] = "application/json" }, body)
end

function response(status)
  if status < 300 then
    ok = ok + 1
  elseif status == 503 then
    unavailable = unavailable + 1
  else
    failed = failed + 1
  end
end

function done(summary, latency)
  local broken = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    '\n{"seconds": %f, "ok": %d, "unavailable": %d, "failed": %d, "p50": %f, "p99": %f}',
    summary.duration / 1e6, main:get("ok"), main:get("unavailable"), main:get("failed") + broken,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3
  ))
end
