"""What must happen in the shared store at once, in Lua: taking the lease, keeping it, writing under it, giving it back.

The lease is a string that ends by itself, `fence|id|name`. The fence is a number that grows with every new holder and never ends; a write
counts only while the fence is still the writer's own, so that a holder of yesterday changes nothing, however late its write arrives. Whoever
knows a higher generation than the store lays a claim, and nobody else may take the lease before it. Answers begin with a word.
"""

from __future__ import annotations

_COMMON = """
local lease, fences, pair, claims, news = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local function stored() return tonumber(redis.call('HGET', pair, 'generation') or '0') end
-- an answer that is kept and not committed counts as the next generation
local function reach() return stored() + redis.call('HEXISTS', pair, 'answer') end
local function claimed()
  local claim = redis.call('GET', claims)
  if not claim then return 0, '' end
  local generation, id = string.match(claim, '^(%d+)|(.*)$')
  return tonumber(generation), id
end
"""

TAKE = (
    _COMMON
    + """
local id, name, ttl, floor, seen, mine, patient = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
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
"""
)
"""Takes the lease. `seen` is the highest generation that the taker ever heard of, `mine` the one that it holds itself and may claim."""

KEEP = (
    _COMMON
    + """
local value, fence, ttl, proven = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
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
"""
)
"""Renews the lease. One that ended is taken up again only if nobody had it since, or if the store forgot and the holder's own time still runs."""

WRITE = (
    _COMMON
    + """
local value, fence, ttl, generation = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local held = redis.call('GET', lease)
if redis.call('GET', fences) ~= fence or (held and held ~= value) then return {'lost', held or ''} end
if stored() > generation and redis.call('HGET', pair, 'fence') ~= fence then return {'newer', stored()} end
redis.call('SET', lease, value, 'PX', ttl)
redis.call('HSET', pair, 'fence', fence, 'generation', ARGV[4])
for at = 5, #ARGV, 2 do
  if ARGV[at + 1] == '' then redis.call('HDEL', pair, ARGV[at]) else redis.call('HSET', pair, ARGV[at], ARGV[at + 1]) end
end
return {'written'}
"""
)
"""Writes fields of the pair, all or none, if the fence is the writer's and nobody else stored a higher generation (compare and swap)."""

GIVE_BACK = (
    _COMMON
    + """
if redis.call('GET', lease) == ARGV[1] then
  redis.call('DEL', lease)
  redis.call('PUBLISH', news, 'free')
end
return {'given back'}
"""
)
"""Ends the lease before its time, if it is the caller's."""

SHOW = (
    _COMMON
    + """
if redis.call('GET', fences) ~= ARGV[1] then return {'lost'} end
redis.call('SET', KEYS[6], ARGV[2])
redis.call('PUBLISH', news, 'shown')
return {'shown'}
"""
)
"""Shows followers what they may know, if the fence is the caller's."""

PUT_ASIDE = """
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return {'kept'}
"""
"""Keeps what cannot be understood under another name; only the lease's holder does."""
