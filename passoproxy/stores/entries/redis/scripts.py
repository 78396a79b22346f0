"""The keys of a cache in Redis or Valkey, and the Lua scripts that change them. Each script is one atomic step.

P is the prefix, with a hash tag; E is P, the epoch and a colon:

    P meta            hash: epoch; seq, the number of the last purge; version, which changes with E purges; events; bytes; left, see PURGE
    P events          stream, one message a change: n, marks, changed, purge (hard, soft or empty), from
    P heard, alive    up to which event each instance has listened, and when (ms) it did so last
    P in:TOKEN        a body that is being stored, piece by piece
    E e:ROW           hash, one entry: v, the sealed head; m, `STAMP SIZE VARIES RESPONSE_TIME DIGEST`; x, its sets; 0, 1, 2, … its body
    E k:… u:… r:… t:… p:…   sets of rows by primary key, target, route, tag and partition (digests of them)
    E used            sorted set: each row by its last use (epoch seconds)
    E purges          hash: number to purge, in force for every read: soft ones, and others until their rows are removed
    E log             hash: number to purge, the last KEPT_PURGES: for answers that were requested before them

ROW is `KEY.KID.IDENTIFIER`; KID names the secret and the format of the sealed head. STAMP is the last purge's number when the entry was
stored. An epoch is one life of the cache: an instance that finds no `meta` begins another, so a lost log brings back nothing.
Everything ends by itself: an entry and its sets ENDS_SECONDS after the last use, the rest so long after the last instance was there.
"""

from __future__ import annotations

MOST_EVENTS = 4096
OVERHEAD = 3500
"""Bytes that an entry takes beside its body, roughly."""

KEPT_PURGES = 1000
EVICTED = 32
"""Entries that one storing may evict."""

PRUNED = 32
"""Entries without use for IDLE_SECONDS that are removed at once."""

IDLE_SECONDS = 30 * 86400
ENDS_SECONDS = 31 * 86400

_SHARED = """
local P = KEYS[1]
local meta = P .. 'meta'
local E = P .. ARGV[1] .. ':'
local used = E .. 'used'
local function now()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end
local function field(packed, at)
  local n = 0
  for each in string.gmatch(packed, '%S+') do
    n = n + 1
    if n == at then return each end
  end
end
local function number(packed, at) return tonumber(field(packed, at) or '') or 0 end
local function tell(marks, changed, purge, from)
  local n = redis.call('HINCRBY', meta, 'events', 1)
  redis.call('XADD', P .. 'events', 'MAXLEN', '~', MOST_EVENTS, '*',
    'n', n, 'marks', marks, 'changed', changed, 'purge', purge, 'from', from)
  return n
end
local function enter(row, sets)
  redis.call('EXPIRE', E .. 'e:' .. row, ENDS_SECONDS)
  for name in string.gmatch(sets, '%S+') do
    redis.call('SADD', E .. name, row)
    redis.call('EXPIRE', E .. name, ENDS_SECONDS)
  end
end
local function leave(row, sets)
  for name in string.gmatch(sets, '%S+') do redis.call('SREM', E .. name, row) end
end
local function drop(row)
  local found = redis.call('HMGET', E .. 'e:' .. row, 'm', 'x')
  redis.call('UNLINK', E .. 'e:' .. row)
  redis.call('ZREM', used, row)
  if found[2] then leave(row, found[2]) end
  if found[1] then redis.call('HINCRBY', meta, 'bytes', -number(found[1], 2)) end
end
"""
for _name, _value in (("MOST_EVENTS", MOST_EVENTS), ("ENDS_SECONDS", ENDS_SECONDS)):
    _SHARED = _SHARED.replace(_name, str(_value))


def _script(source: str, **numbers: int) -> str:
    for name, value in numbers.items():
        source = source.replace(name, str(value))
    return _SHARED + source


BEGIN = _script("""
if redis.call('HEXISTS', meta, 'epoch') == 0 then
  redis.call('HSET', meta, 'epoch', ARGV[1], 'seq', 0, 'version', 0, 'events', 0, 'bytes', 0)
end
return redis.call('HMGET', meta, 'epoch', 'version', 'seq', 'events')
""")
"""ARGV: the epoch to begin if there is none. Returns the fields of `meta`."""

GET = _script("""
local found = redis.call('HMGET', meta, 'epoch', 'version')
if found[1] ~= ARGV[1] then return found end
for _, row in ipairs(redis.call('SMEMBERS', E .. ARGV[2])) do
  local entry = redis.call('HMGET', E .. 'e:' .. row, 'v', 'm')
  found[#found + 1] = row
  found[#found + 1] = entry[1] or ''
  found[#found + 1] = entry[2] or ''
end
return found
""")
"""ARGV: epoch, the set of a primary key. Returns epoch and version, then row, v and m of each variant."""

HEADS = _script("""
local found = {}
for at = 2, #ARGV do
  local entry = redis.call('HMGET', E .. 'e:' .. ARGV[at], 'v', 'm')
  found[#found + 1] = entry[1] or ''
  found[#found + 1] = entry[2] or ''
end
return found
""")
"""ARGV: epoch, rows. Returns v and m of each, empty if there is no such row."""

STORE = _script(
    """
local epoch, since, from, row, sealed, packed, sets = unpack(ARGV, 1, 7)
local replaces, token, last, body, most, most_bytes = unpack(ARGV, 8, 13)
local known = redis.call('HMGET', meta, 'epoch', 'seq')
if known[1] ~= epoch then return { 'epoch' } end
if known[2] ~= since then return { 'purges', known[2] } end
if token ~= '' and redis.call('HLEN', P .. token) ~= tonumber(last) then return { 'lost' } end
local changed, count, oldest, oldest_at = 0, 1, nil, nil
local variants = E .. field(sets, 1)
for _, other in ipairs(redis.call('SMEMBERS', variants)) do
  local m = redis.call('HGET', E .. 'e:' .. other, 'm')
  if not m then
    redis.call('SREM', variants, other)
  elseif string.find(replaces, other, 1, true) or string.find(replaces, field(m, 3) or '', 1, true) then
    drop(other)
    changed = 1
  else
    local when = number(m, 4)
    count = count + 1
    if not oldest_at or when < oldest_at then oldest, oldest_at = other, when end
  end
end
if oldest and count > tonumber(most) then
  drop(oldest)
  changed = 1
end
local e = E .. 'e:' .. row
if redis.call('EXISTS', e) == 1 then drop(row) end
if token ~= '' then redis.call('RENAME', P .. token, e) end
if body ~= '' or last == '0' then redis.call('HSET', e, last, body) end
redis.call('HSET', e, 'v', sealed, 'm', since .. ' ' .. packed, 'x', sets)
enter(row, sets)
redis.call('ZADD', used, now(), row)
local bytes = redis.call('HINCRBY', meta, 'bytes', field(packed, 1))
tell(string.sub(row, 1, 12), changed, '', from)
local evicted = 0
while evicted < EVICTED and bytes + OVERHEAD * redis.call('ZCARD', used) > tonumber(most_bytes) do
  local least = redis.call('ZRANGE', used, 0, 1)
  local victim = least[1] ~= row and least[1] or least[2]
  if not victim then break end
  drop(victim)
  bytes = tonumber(redis.call('HGET', meta, 'bytes'))
  evicted = evicted + 1
end
return { 'stored', changed, evicted }
""",
    EVICTED=EVICTED,
    OVERHEAD=OVERHEAD,
)
"""Stores an entry; what was not used for longest is evicted.

ARGV: epoch, seq as far as the answer was judged, instance, row, v, m without its stamp, sets (the primary key's first), rows and VARIES that are
replaced, token of the body so far or '', number and content of its last piece, the most variants, the most bytes.
Returns `stored`, whether something was replaced, how many were evicted; else `epoch`, `purges` and seq, or `lost`.
"""

UPDATE = _script("""
local epoch, from, row, before, sealed, varies, response, sets = unpack(ARGV)
if redis.call('HGET', meta, 'epoch') ~= epoch then return 0 end
local found = redis.call('HMGET', E .. 'e:' .. row, 'v', 'm', 'x')
if not found[1] or not found[2] or not found[3] then return 0 end
if found[1] ~= before then return -1 end
local m = found[2]
leave(row, found[3])
redis.call('HSET', E .. 'e:' .. row, 'v', sealed, 'x', sets,
  'm', table.concat({ field(m, 1), field(m, 2), varies, response, field(m, 5) }, ' '))
enter(row, sets)
tell(string.sub(row, 1, 12), 1, '', from)
return 1
""")
"""Replaces the head of an entry if it is still `before`. Returns 1; 0 if the entry is gone, -1 if another instance has changed it."""

DROP = _script("""
local epoch, from, digest, purge, quiet = unpack(ARGV, 1, 5)
if redis.call('HGET', meta, 'epoch') ~= epoch then return { 0, 0 } end
local gone, marks, told = 0, {}, 0
for at = 6, #ARGV do
  local row = ARGV[at]
  local m = redis.call('HGET', E .. 'e:' .. row, 'm')
  if not m then
    drop(row)
  elseif (digest == '' or field(m, 5) == digest) and (purge == '' or number(m, 1) < tonumber(purge)) then
    drop(row)
    gone = gone + 1
    marks[#marks + 1] = string.sub(row, 1, 12)
  end
end
if quiet == '1' then
  redis.call('HINCRBY', meta, 'left', -gone)
elseif gone > 0 then
  told = tell(table.concat(marks, ' '), 1, '', from)
end
return { gone, told }
""")
"""Removes rows (ARGV 6…): with a digest only if the body is that one, with a purge's number only what was stored before it.

`quiet`: other instances were told of the purge already. Returns how many were removed, and the event's number.
"""

PURGE = _script(
    """
local epoch, from, purge, kind, behind, done = unpack(ARGV)
if redis.call('HGET', meta, 'epoch') ~= epoch then return {} end
local n = redis.call('HGET', meta, 'seq') + 1
redis.call('HDEL', E .. 'log', n - KEPT) -- first: a server that is full lets a script go on that began by freeing
redis.call('HSET', meta, 'seq', n)
redis.call('HINCRBY', meta, 'version', 1)
redis.call('HSET', E .. 'purges', n, purge)
for number in string.gmatch(done, '%S+') do redis.call('HDEL', E .. 'purges', number) end
redis.call('HSET', E .. 'log', n, purge)
if behind ~= '0' then redis.call('HINCRBY', meta, 'left', behind) end
local marks = behind ~= '0' and '0' or ''
return { n, tell(marks, (marks ~= '' or kind == 'soft') and 1 or 0, kind, from) }
""",
    KEPT=KEPT_PURGES,
)
"""Puts a purge in force. Returns its number and its event's; nothing in another epoch.

`behind`: so many entries are counted as removed already and will be (`left`). `done`: numbers of soft purges that this one stands for too.
"""

DONE = _script("""
if redis.call('HGET', meta, 'epoch') ~= ARGV[1] then return 0 end
redis.call('HDEL', E .. 'purges', ARGV[2])
redis.call('HINCRBY', meta, 'version', 1)
redis.call('HDEL', meta, 'left')
return 1
""")
"""All rows of a purge (ARGV: epoch, number) are removed."""

TOUCH = _script("""
local at = now()
for index = 2, #ARGV do
  for _, row in ipairs(redis.call('SMEMBERS', E .. ARGV[index])) do
    redis.call('ZADD', used, 'XX', at, row)
    local sets = redis.call('HGET', E .. 'e:' .. row, 'x')
    if sets then enter(row, sets) end
  end
end
return 1
""")
"""The variants in these sets of primary keys (ARGV: epoch, sets) were used."""

HEARD = _script(
    """
local _, name, event = unpack(ARGV)
redis.call('HSET', P .. 'heard', name, event)
redis.call('ZADD', P .. 'alive', math.floor(now() * 1000), name)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', P .. 'alive', '-inf', (now() - 60) * 1000)) do
  redis.call('HDEL', P .. 'heard', gone)
  redis.call('ZREM', P .. 'alive', gone)
end
for _, row in ipairs(redis.call('ZRANGEBYSCORE', used, '-inf', now() - IDLE, 'LIMIT', 0, PRUNED)) do drop(row) end
for _, name in ipairs({ meta, P .. 'events', P .. 'heard', P .. 'alive', used, E .. 'purges', E .. 'log' }) do
  redis.call('EXPIRE', name, ENDS + 86400)
end
return 1
""",
    IDLE=IDLE_SECONDS,
    PRUNED=PRUNED,
    ENDS=ENDS_SECONDS,
)
"""An instance (ARGV: epoch, its name, an event's number) has listened so far. Housekeeping: old entries go, and what is in use does not end."""

BEHIND = _script("""
local behind = 0
for _, each in ipairs(redis.call('ZRANGEBYSCORE', P .. 'alive', (now() - 3) * 1000, '+inf')) do
  if each ~= ARGV[2] and tonumber(redis.call('HGET', P .. 'heard', each) or '0') < tonumber(ARGV[3]) then behind = behind + 1 end
end
return behind
""")
"""How many other instances were there in the last 3 s and have not listened so far (ARGV: epoch, one's own name, an event's number)."""
