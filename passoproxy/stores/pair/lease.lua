-- The lease on a fleet's pair, and writes under it. One atomic step each; ARGV[1] names it, and the answer begins with a word.
local lease, fences, pair, claims, news = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local step = table.remove(ARGV, 1)

local function stored() return tonumber(redis.call('HGET', pair, 'generation') or '0') end
-- an answer that is kept and not committed counts as the next generation
local function reach() return stored() + redis.call('HEXISTS', pair, 'answer') end
local function claimed()
  local claim = redis.call('GET', claims)
  if not claim then return 0, '' end
  local generation, id = string.match(claim, '^(%d+)|(.*)$')
  return tonumber(generation), id
end

local steps = {}

-- Takes the lease. `seen` is the highest generation that the taker ever heard of, `mine` the one that it holds itself and may claim.
function steps.take(id, name, ttl, floor, seen, mine, patient)
  floor, seen, mine = tonumber(floor), tonumber(seen), tonumber(mine)
  local generation = reach()
  local highest, claimant = claimed()
  if mine > generation and (mine > highest or claimant == id) then
    redis.call('SET', claims, string.format('%d|%s', mine, id), 'PX', 5000)
    highest, claimant = mine, id
  end
  local held = redis.call('GET', lease)
  -- a lease of our own that we do not know of: its answer was lost, and nothing was done under it
  if held and not string.find(held, '|' .. id .. '|', 1, true) then return {'held', held, generation} end
  if highest > math.max(generation, mine) and claimant ~= id then return {'claimed', '', generation} end
  if seen > generation and patient ~= '1' then return {'older', '', generation} end
  local fence = math.max(tonumber(redis.call('GET', fences) or '0'), floor) + 1
  redis.call('SET', fences, string.format('%d', fence))
  redis.call('SET', lease, string.format('%d|%s|%s', fence, id, name), 'PX', ttl)
  if claimant == id then redis.call('DEL', claims) end
  return {'taken', string.format('%d', fence), generation}
end

-- Renews the lease. One that ended is taken up again only if no other had it since, or if the store forgot and the holder's own time still runs.
function steps.keep(value, fence, ttl, proven)
  local held, last = redis.call('GET', lease), redis.call('GET', fences)
  if held and held ~= value then return {'lost', held} end
  if not held and last ~= fence then
    if proven ~= '1' or (last and tonumber(last) > tonumber(fence)) then return {'lost', ''} end
    redis.call('SET', fences, fence)
  end
  redis.call('SET', lease, value, 'PX', ttl)
  local highest, claimant = claimed()
  if highest <= reach() then highest = 0 end
  local stamp = (redis.call('HGET', pair, 'fence') or '') .. '.' .. (redis.call('HGET', pair, 'serial') or '')
  return {'kept', stamp, stored(), highest, claimant}
end

-- Writes fields of the pair, all or none, if the fence is the writer's and no other stored a higher generation (compare and swap).
function steps.write(value, fence, ttl, generation, ...)
  local held, fields = redis.call('GET', lease), {...}
  if redis.call('GET', fences) ~= fence or (held and held ~= value) then return {'lost', held or ''} end
  if stored() > tonumber(generation) and redis.call('HGET', pair, 'fence') ~= fence then return {'newer', stored()} end
  redis.call('SET', lease, value, 'PX', ttl)
  redis.call('HSET', pair, 'fence', fence, 'generation', generation)
  for at = 1, #fields, 2 do
    if fields[at + 1] == '' then redis.call('HDEL', pair, fields[at]) else redis.call('HSET', pair, fields[at], fields[at + 1]) end
  end
  return {'written'}
end

-- Ends the lease before its time, if it is the caller's.
function steps.give_back(value)
  if redis.call('GET', lease) == value then
    redis.call('DEL', lease)
    redis.call('PUBLISH', news, 'free')
  end
  return {'given back'}
end

-- Publishes what followers may know, if the fence is the caller's.
function steps.show(fence, shown)
  if redis.call('GET', fences) ~= fence then return {'lost'} end
  redis.call('SET', KEYS[6], shown)
  redis.call('PUBLISH', news, 'shown')
  return {'shown'}
end

return steps[step](unpack(ARGV))
