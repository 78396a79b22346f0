-- The places at the origin among the instances of one store. One step: an instance says what it holds and wants, and is told what it has.
--
-- KEYS[1] begins every key. `places` is a hash: instance to `HELD DUE WANTS TURN CALLED UNTIL`. HELD is what it may use. DUE was given to it
-- since it asked last. TURN is its place in the queue of those that are short, 0 for none; each place that it gets sends it to the end. CALLED:
-- it was told that others are short. UNTIL (ms) is when what it has is free again, if it says nothing. `here`: when each instance was heard last.
-- `call:NAME` wakes it. `anew`: for a moment no instance gets more than its share, since some use theirs without the store's knowledge; or none
-- gets any, since the store has lost what they hold. By then all have told it.
--
-- ARGV: name, held, wants, limit, instances seen last, word, and in ms: lease, presence, anew. The word is `new` if the instance was never
-- answered, `alone` if it uses its share, `gone` at its end.
-- Returns what it holds, what it should keep of that since others are short, and how many instances there are.
local P, name = KEYS[1], ARGV[1]
local held, wants, limit, seen, word = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local lease, presence, wait = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZADD', P .. 'here', now, name)
redis.call('ZREMRANGEBYSCORE', P .. 'here', '-inf', now - presence)
redis.call('ZREMRANGEBYSCORE', P .. 'here', now + 1, '+inf') -- the clock was set back
if word == 'gone' then redis.call('ZREM', P .. 'here', name) end
local is_empty = redis.call('SETNX', P .. 'turn', 0) == 1
if word == 'alone' then
  redis.call('SET', P .. 'anew', 'share ' .. now + wait)
elseif is_empty and word ~= 'new' then
  redis.call('SET', P .. 'anew', 'none ' .. now + wait)
end
local how, last = string.match(redis.call('GET', P .. 'anew') or '', '(%a+) (%d+)')
local anew = how ~= nil and tonumber(last) > now and tonumber(last) <= now + wait
local instances = math.max(1, redis.call('ZCARD', P .. 'here'))
if anew then instances = math.max(instances, seen) end
local share = math.max(1, math.floor(limit / instances))
local most = not anew and limit or how == 'share' and share or 0

local members, before, used = {}, {}, 0
local found = redis.call('HGETALL', P .. 'places')
for at = 1, #found, 2 do
  local h, d, w, t, c, u = string.match(found[at + 1], '(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)')
  u = math.min(tonumber(u), now + lease) -- the clock was set back
  before[found[at]] = found[at + 1]
  if u > now then
    members[found[at]] = { h = tonumber(h), d = tonumber(d), w = tonumber(w), t = tonumber(t), c = tonumber(c), u = u }
  end
end
local me = members[name] or { d = 0, t = 0 }
me.h, me.d, me.w, me.c, me.u = word == 'gone' and 0 or held + me.d, 0, wants, 0, now + lease
members[name] = me
for _, each in pairs(members) do used = used + each.h + each.d end

local function queue(each)
  if each.w <= each.h + each.d then each.t = 0 else each.t = redis.call('INCR', P .. 'turn') end
end
local was_short = wants > me.h
if not was_short or me.t == 0 then queue(me) end

local called = {}
while used < limit do
  local first
  for which, each in pairs(members) do
    if each.t > 0 and each.h + each.d < most and (not first or each.t < members[first].t) then first = which end
  end
  if not first then break end
  local each = members[first]
  if first == name then each.h = each.h + 1 else each.d, called[first] = each.d + 1, true end
  used = used + 1
  queue(each)
end
if was_short and not anew then me.h = me.h + math.max(0, math.min(limit - used, share - me.h)) end

local busy, short = 0, 0
for _, each in pairs(members) do
  if each.h + each.d > 0 or each.t > 0 then busy = busy + 1 end
  if each.t > 0 then short = short + 1 end
end
local part, keep = math.floor(limit / math.max(1, busy)), me.h
if short > (me.t > 0 and 1 or 0) then
  keep = math.min(me.h, part)
  me.c = keep < me.h and 1 or 0
end
for which, each in pairs(members) do
  if short > 0 and which ~= name and each.c == 0 and each.h + each.d > part then each.c, called[which] = 1, true end
  if each.h + each.d + each.w == 0 then
    redis.call('HDEL', P .. 'places', which)
  else
    local packed = string.format('%d %d %d %d %d %d', each.h, each.d, each.w, each.t, each.c, each.u)
    if packed ~= before[which] then redis.call('HSET', P .. 'places', which, packed) end
  end
  before[which] = nil
end
for which in pairs(before) do redis.call('HDEL', P .. 'places', which) end
for which in pairs(called) do
  redis.call('LPUSH', P .. 'call:' .. which, 1)
  redis.call('LTRIM', P .. 'call:' .. which, 0, 0)
  redis.call('PEXPIRE', P .. 'call:' .. which, lease)
end
for _, each in ipairs({ 'places', 'here', 'turn', 'anew' }) do redis.call('PEXPIRE', P .. each, 86400000) end
return { me.h, keep, instances }
