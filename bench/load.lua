-- What wrk asks: wrk ... -s load.lua URL -- MODE COUNT SEED EXPECT SIZE ANSWERS PAUSE
--   plain        the same request each time
--   traceparent  a traceparent that was never sent before
--   spread       ?n= one of COUNT numbers, each as likely as the others
--   zipf         ?n= one of COUNT numbers, by a Zipf law of slope 1
--   new          ?n= a number that was never asked for
--   fill         ?n= SEED, SEED + 1, ... up to COUNT - 1
--   post         a JSON body of 300 bytes, the same each time
-- With ANSWERS above 0 wrk ends after so many answers. EXPECT is hit, other, either or none: but for none each of them must have status
-- 200 and SIZE bytes, and with hit or other it must say whether it is a hit. PAUSE: milliseconds that each connection waits before a request.

-- A thread that stops does not end wrk, so this ends the process.
local function say(what, code)
  print(what)
  io.stdout:flush()
  os.exit(code)
end

local function between(mark, text)
  local from, to = text:find(mark, 1, true)
  return text:sub(1, from - 1), text:sub(to + 1)
end

local function ranks(count)
  local sums, sum, ranks = {}, 0, {}
  for rank = 1, count do sum = sum + 1 / rank; sums[rank] = sum end
  for at = 1, 131072 do
    local wanted, low, high = math.random() * sum, 1, count
    while low < high do
      local middle = math.floor((low + high) / 2)
      if sums[middle] < wanted then low = middle + 1 else high = middle end
    end
    ranks[at] = low
  end
  return ranks
end

function init(args)
  local mode, count, seed, expect, size = args[1], tonumber(args[2]), tonumber(args[3]), args[4], tonumber(args[5])
  local path, n = wrk.path, 0
  math.randomseed(seed)
  if mode == "post" then
    wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
    wrk.body = '{"destinations": ["TR"], "nationalities": ["DE"], "text": "' .. string.rep("x", 239) .. '"}'
  elseif mode == "traceparent" then
    local before, after = between("@", wrk.format("GET", path, {Host = wrk.headers["Host"], traceparent = "00-" .. string.format("%016x", seed) .. "@-01"}))
    request = function()
      n = n + 1
      return before .. string.format("%016x-%016x", n, n) .. after
    end
  elseif mode ~= "plain" then
    local before, after = between("@", wrk.format("GET", path .. "?n=@"))
    if mode == "spread" then
      request = function() return before .. math.random(0, count - 1) .. after end
    elseif mode == "zipf" then
      local ranks = ranks(count)
      request = function() n = n % 131072 + 1; return before .. ranks[n] - 1 .. after end
    elseif mode == "new" then
      request = function() n = n + 1; return before .. seed .. "-" .. n .. after end
    elseif mode == "fill" then
      n = seed - 1
      request = function() n = n + 1; return before .. n % count .. after end
    end
  end
  local left, pause = tonumber(args[6]), tonumber(args[7])
  if pause > 0 then
    delay = function() return pause end
  end
  local function look(status, headers, body)
    local said = ""
    for name, value in pairs(headers) do
      name = name:lower()
      if name == "x-cache" or name == "cache-status" then said = said .. value:lower() end
    end
    if status ~= 200 or #body ~= size or (expect ~= "either" and (said:find("hit", 1, true) ~= nil) ~= (expect == "hit")) then
      say("an answer has status " .. status .. ", " .. #body .. " bytes, cache: " .. said, 1)
    end
  end
  if left > 0 then
    response = function(status, headers, body)
      if expect ~= "none" then look(status, headers, body) end
      left = left - 1
      if left == 0 then say("LOOKED", 0) end
    end
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "seconds": %.6f, "refused": %d, "broken": %d, "p50": %.1f, "p99": %.1f, "p999": %.1f}\n',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
