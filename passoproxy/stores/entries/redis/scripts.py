"""What is kept in Redis or Valkey for entries, and the scripts that change it: each is one step, so nobody ever sees half of it.

Names, all behind one prefix with a hash tag:

    meta                  epoch, purges, events, bytes, undone, left (rows of undone purges that were answered), `log:N`, purge N's selector,
                          and soft, the soft purges (`soft_purge_codec`), with softs, how often they changed
    events                a stream, one message for each change: n, marks, changed, purge, from
    heard, alive          up to which event instances have listened, and when they were last heard of
    EPOCH:k:KEY           a hash for each primary key; for each variant ID `v:ID` (sealed), `h:ID` (hints), `m:ID` (what scripts need)
    EPOCH:b:KEY.ID.DIGEST a body, and `EPOCH:read:…` while someone reads it: then it outlives its entry by READ_SECONDS
    EPOCH:i, EPOCH:ends   all rows as `HINTS NUL KEY.ID`: in the order of their hints, and by when they end
    EPOCH:t:TAG, EPOCH:r:ROUTE, EPOCH:vague   sets of KEY.ID, for purges; vague ones are those whose hints do not tell all
    in:TOKEN              a body under way

An epoch is one life of the cache: a purge of everything begins another, and so does whoever finds the store empty. Everything of an epoch has
an end, so a store that nobody cares for any more empties itself. `m:ID` is `WHAT_IT_VARIES_BY RESPONSE_TIME STAMP SIZE DIGEST END`;
the stamp is the number of the last purge when it was stored.
"""

from __future__ import annotations

MOST_EVENTS = 4096
OVERHEAD = 3500
"""Bytes that an entry takes beside its body, near enough for a bound."""

KEPT_PURGES = 1000
PRUNED = 4
"""Entries past their end whose traces each storing clears away."""

READ_SECONDS = 300
"""How long whoever has begun to read a body may take to its end, and to say that it is still at it."""

EVICTED = 32
"""Entries that each storing may evict: those that end soonest."""

_SHARED = """
local P = KEYS[1]
local meta, stream = P .. 'meta', P .. 'events'
local function field(packed, at)
  local n = 0
  for each in string.gmatch(packed, '%S+') do
    n = n + 1
    if n == at then return each end
  end
end
local function tell(marks, changed, purge, from)
  local n = redis.call('HINCRBY', meta, 'events', 1)
  redis.call('XADD', stream, 'MAXLEN', '~', MOST_EVENTS, '*',
    'n', n, 'marks', marks, 'changed', changed, 'purge', purge, 'from', from)
  return n
end
local function sets_of(E, hints)
  local parts, from = {}, 1
  while true do
    local at = string.find(hints, '%z', from)
    if not at then break end
    parts[#parts + 1] = string.sub(hints, from, at - 1)
    from = at + 1
  end
  if #parts ~= 4 or string.sub(hints, from) ~= '=' then return { E .. 'vague' } end
  local sets = { E .. 'r:' .. parts[2] }
  for tag in string.gmatch(parts[4], '[^\\31]+') do sets[#sets + 1] = E .. 't:' .. tag end
  return sets
end
local function forget(E, member, row, hints)
  redis.call('ZREM', E .. 'i', member)
  redis.call('ZREM', E .. 'ends', member)
  for _, set in ipairs(sets_of(E, hints)) do redis.call('SREM', set, row) end
end
local function let_go(E, body)
  if redis.call('EXISTS', E .. 'read:' .. body) == 1 then
    redis.call('EXPIRE', E .. 'b:' .. body, READ_SECONDS)
  else
    redis.call('UNLINK', E .. 'b:' .. body)
  end
end
local function drop(E, key, id)
  local k = E .. 'k:' .. key
  local found = redis.call('HMGET', k, 'm:' .. id, 'h:' .. id)
  local m, hints = found[1], found[2]
  if not m or not hints then
    redis.call('HDEL', k, 'm:' .. id, 'h:' .. id, 'v:' .. id)
    return false
  end
  local row = key .. '.' .. id
  forget(E, hints .. '\\0' .. row, row, hints)
  let_go(E, row .. '.' .. field(m, 5))
  redis.call('HDEL', k, 'm:' .. id, 'h:' .. id, 'v:' .. id)
  redis.call('HINCRBY', meta, 'bytes', -tonumber(field(m, 4)))
  return m
end
local function last(name, ends)
  local now = tonumber(redis.call('TIME')[1])
  local left = redis.call('TTL', name)
  if left < 0 or now + left < ends then redis.call('EXPIREAT', name, math.ceil(ends)) end
end
local function enter(E, row, hints, ends)
  local member = hints .. '\\0' .. row
  redis.call('ZADD', E .. 'i', 0, member)
  redis.call('ZADD', E .. 'ends', ends, member)
  last(E .. 'i', ends + 7200)
  last(E .. 'ends', ends + 7200)
  for _, set in ipairs(sets_of(E, hints)) do
    redis.call('SADD', set, row)
    last(set, ends + 7200)
  end
end
local function of_member(member)
  local hints, row = string.match(member, '^(.*)%z([^%z]*)$')
  return hints, row, string.match(row, '^(.*)%.'), string.match(row, '%.(.*)$')
end
local function prune(E)
  local now = tonumber(redis.call('TIME')[1])
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', E .. 'ends', '-inf', now, 'LIMIT', 0, PRUNED)) do
    local hints, row, key, id = of_member(member)
    if not drop(E, key, id) then forget(E, member, row, hints) end
  end
end
local function make_room(E, most, but)
  local gone = 0
  while gone < EVICTED do
    local used = tonumber(redis.call('HGET', meta, 'bytes')) + OVERHEAD * redis.call('ZCARD', E .. 'ends')
    if used <= most then break end
    local soonest = redis.call('ZRANGE', E .. 'ends', 0, 1)
    local member = soonest[1]
    if member and string.sub(member, -#but) == but then member = soonest[2] end
    if not member then break end
    local hints, row, key, id = of_member(member)
    if not drop(E, key, id) then forget(E, member, row, hints) end
    gone = gone + 1
  end
  return gone
end
"""
for _name, _value in (
    ("MOST_EVENTS", MOST_EVENTS),
    ("PRUNED", PRUNED),
    ("EVICTED", EVICTED),
    ("OVERHEAD", OVERHEAD),
    ("READ_SECONDS", READ_SECONDS),
):
    _SHARED = _SHARED.replace(_name, str(_value))

BEGIN = (
    _SHARED
    + """
if redis.call('HEXISTS', meta, 'epoch') == 0 then
  redis.call('HSET', meta, 'epoch', ARGV[1], 'purges', 0, 'events', 0, 'bytes', 0, 'undone', '')
end
return redis.call('HMGET', meta, 'epoch', 'purges', 'events', 'undone', 'softs')
"""
)
"""ARGV: an epoch, where there is none."""

STORE = (
    _SHARED
    + """
local epoch, since, from, key, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local sealed, hints, varies, response, digest, size, ends = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local most, mark, token, body, most_bytes = tonumber(ARGV[13]), ARGV[14], ARGV[15], ARGV[16], tonumber(ARGV[17])
local known = redis.call('HMGET', meta, 'epoch', 'purges')
if known[1] ~= epoch then return { 'epoch' } end
if known[2] ~= since then return { 'purges', known[2] } end
if token ~= '' and redis.call('STRLEN', P .. token) ~= tonumber(size) then return { 'lost' } end
local E = P .. epoch .. ':'
local k, row = E .. 'k:' .. key, key .. '.' .. id
local changed, count, oldest, oldest_at = 0, 1, nil, nil
for _, name in ipairs(redis.call('HKEYS', k)) do
  local other = string.match(name, '^m:(.*)$')
  if other then
    local m = redis.call('HGET', k, name)
    if other == id or field(m, 1) == varies then
      drop(E, key, other)
      changed = 1
    else
      local when = tonumber(field(m, 2))
      count = count + 1
      if not oldest_at or when < oldest_at then oldest, oldest_at = other, when end
    end
  end
end
if count > most and oldest then
  drop(E, key, oldest)
  changed = 1
end
local b = E .. 'b:' .. row .. '.' .. digest
if token ~= '' then redis.call('RENAME', P .. token, b) else redis.call('SET', b, body) end
redis.call('EXPIREAT', b, math.ceil(ends))
redis.call('HSET', k, 'v:' .. id, sealed, 'h:' .. id, hints,
  'm:' .. id, varies .. ' ' .. response .. ' ' .. since .. ' ' .. size .. ' ' .. digest .. ' ' .. ends)
last(k, ends + 3600)
enter(E, row, hints, tonumber(ends))
redis.call('HINCRBY', meta, 'bytes', size)
tell(mark, changed, '', from)
prune(E)
return { 'stored', changed, make_room(E, most_bytes, row) }
"""
)
"""ARGV as they are named at the head. Answers `stored`, whether something was replaced, how many were evicted; or why not: `epoch`, `purges` N, `lost`."""

UPDATE = (
    _SHARED
    + """
local epoch, from, key, id, before, sealed, hints, varies, response, ends, mark = unpack(ARGV)
if redis.call('HGET', meta, 'epoch') ~= epoch then return 0 end
local E = P .. epoch .. ':'
local k, row = E .. 'k:' .. key, key .. '.' .. id
local found = redis.call('HMGET', k, 'v:' .. id, 'm:' .. id, 'h:' .. id)
if not found[2] or not found[3] then return 0 end
if found[1] ~= before then return -1 end
forget(E, found[3] .. '\\0' .. row, row, found[3])
local stamp, size, digest = field(found[2], 3), field(found[2], 4), field(found[2], 5)
redis.call('HSET', k, 'v:' .. id, sealed, 'h:' .. id, hints,
  'm:' .. id, varies .. ' ' .. response .. ' ' .. stamp .. ' ' .. size .. ' ' .. digest .. ' ' .. ends)
last(k, ends + 3600)
redis.call('EXPIREAT', E .. 'b:' .. row .. '.' .. digest, math.ceil(ends))
enter(E, row, hints, tonumber(ends))
tell(mark, 1, '', from)
return 1
"""
)
"""Another head where the sealed value is still `before`: 1 done, 0 gone, -1 someone else was faster."""

DROP = (
    _SHARED
    + """
local epoch, from, digest, purge = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('HGET', meta, 'epoch') ~= epoch then return 0 end
local E, gone, marks, now = P .. epoch .. ':', 0, {}, tonumber(redis.call('TIME')[1])
for at = 6, #ARGV, 2 do
  local row, mark = ARGV[at], ARGV[at + 1]
  local key, id = string.match(row, '^(.*)%.'), string.match(row, '%.(.*)$')
  local m = redis.call('HGET', E .. 'k:' .. key, 'm:' .. id)
  if m and (digest == '' or field(m, 5) == digest) and (purge == 0 or tonumber(field(m, 3)) < purge) then
    drop(E, key, id)
    if tonumber(field(m, 6)) > now then gone = gone + 1 end
    marks[#marks + 1] = mark
  elseif not m then
    drop(E, key, id)
  end
end
if ARGV[5] == '1' then
  redis.call('HINCRBY', meta, 'left', -gone)
elseif #marks > 0 then
  tell(table.concat(marks, ' '), 1, '', from)
end
return gone
"""
)
"""Removes rows (ARGV 6…: row, mark): with a digest only while that is the body's, with a purge only what was stored before it. How many went.

ARGV 5 is 1 where they are of a purge that was answered: then nobody needs to be told.
"""

PURGE = (
    _SHARED
    + """
local epoch, from, selector, marks = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = redis.call('HMGET', meta, 'epoch', 'undone')
if known[1] ~= epoch then return {} end
local n = redis.call('HINCRBY', meta, 'purges', 1)
redis.call('HSET', meta, 'log:' .. n, selector, 'undone', known[2] .. n .. ' ')
redis.call('HDEL', meta, 'log:' .. (n - KEPT))
return { n, tell(marks, marks == '' and 0 or 1, n, from) }
""".replace("KEPT", str(KEPT_PURGES))
)
"""A purge is in force. Answers its number and its event's."""

SOFTEN = (
    _SHARED
    + """
local epoch, from, softs, soft, mark = unpack(ARGV)
local known = redis.call('HMGET', meta, 'epoch', 'softs')
if known[1] ~= epoch or (known[2] or '0') ~= softs then return {} end
redis.call('HSET', meta, 'soft', soft, 'softs', softs + 1)
return { tell(mark, 1, '', from) }
"""
)
"""Other soft purges, where they are still those of change `softs`. Answers its event's number."""

DONE = (
    _SHARED
    + """
local known = redis.call('HMGET', meta, 'epoch', 'undone')
if known[1] ~= ARGV[1] then return 0 end
local undone = string.gsub(string.gsub(' ' .. known[2], ' ' .. ARGV[2] .. ' ', ' ', 1), '^ ', '')
redis.call('HSET', meta, 'undone', undone)
if undone == '' then redis.call('HDEL', meta, 'left') end
return 1
"""
)
"""A purge (ARGV: epoch, number) has been carried out."""

ANEW = (
    _SHARED
    + """
local epoch, from, other = ARGV[1], ARGV[2], ARGV[3]
local known = redis.call('HMGET', meta, 'epoch', 'purges', 'events')
if known[1] ~= epoch then return {} end
local count = redis.call('ZCOUNT', P .. epoch .. ':ends', '(' .. redis.call('TIME')[1], '+inf')
redis.call('DEL', meta)
redis.call('HSET', meta, 'epoch', other, 'purges', known[2] + 1, 'events', known[3], 'bytes', 0, 'undone', '')
return { count, tell('0', 1, known[2] + 1, from) }
"""
)
"""Another epoch in the place of that one. Answers how many entries there were, and its event's number."""

RECLAIM = (
    _SHARED
    + """
local E = P .. ARGV[1] .. ':'
if redis.call('HGET', meta, 'epoch') == ARGV[1] then return 0 end
local members = redis.call('ZRANGE', E .. 'ends', 0, ARGV[2] - 1)
for _, member in ipairs(members) do
  local hints, row, key, id = of_member(member)
  local m = redis.call('HGET', E .. 'k:' .. key, 'm:' .. id)
  if m then let_go(E, row .. '.' .. field(m, 5)) end
  redis.call('HDEL', E .. 'k:' .. key, 'm:' .. id, 'h:' .. id, 'v:' .. id)
  redis.call('ZREM', E .. 'ends', member)
  for _, set in ipairs(sets_of(E, hints)) do redis.call('UNLINK', set) end
end
if #members == 0 then redis.call('UNLINK', E .. 'i', E .. 'ends', E .. 'vague') end
return #members
"""
)
"""Frees what an epoch that is over has left, so many rows at once; how many that were."""

HEARD = (
    _SHARED
    + """
local now = redis.call('TIME')
redis.call('HSET', P .. 'heard', ARGV[1], ARGV[2])
redis.call('ZADD', P .. 'alive', now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', P .. 'alive', '-inf', (now[1] - 60) * 1000)) do
  redis.call('HDEL', P .. 'heard', gone)
  redis.call('ZREM', P .. 'alive', gone)
end
redis.call('EXPIRE', P .. 'heard', 3600)
redis.call('EXPIRE', P .. 'alive', 3600)
return 1
"""
)
"""An instance (ARGV: its name, an event's number) has listened so far."""

BEHIND = (
    _SHARED
    + """
local now, behind = redis.call('TIME'), 0
for _, each in ipairs(redis.call('ZRANGEBYSCORE', P .. 'alive', (now[1] - 3) * 1000, '+inf')) do
  if each ~= ARGV[1] and tonumber(redis.call('HGET', P .. 'heard', each) or '0') < tonumber(ARGV[2]) then behind = behind + 1 end
end
return behind
"""
)
"""How many other instances that live (ARGV: one's own name, an event's number) have not listened so far yet."""
