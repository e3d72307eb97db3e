-- ARGV: id, lifetime ms, nano-usd, tokens, requests, scopes, carried, then "unpriced" if nobody knows what it will cost, then
-- the limits of each scope of the kind `session`, in their order.
-- An integer, twice the code, 1 more if a hold is overdue, and 16 more if every limit had ample room for it: it is held now, or was
-- already (one number, because a client reads that faster than two). {-code, now, overdue, [scope, "UNIT WINDOW", limit, left] ...}: every limit that does not fit;
-- nothing was changed. A hold of no request is a place: only limits of calls at the same time are asked. {code}: it is swept or has ended. {"unlimited", scope}: the project has no limits record.
-- {"unpriced", scope}: this scope's limits are in money.
local SESSION_MS = '604800000'
-- Records of sessions that a project may begin in a day: a client may invent any number of sessions. The limit that has no room
-- is `requests day` of the session then.
local NEW_SESSIONS = 10000
local now, gap_from, gap_to = tick()
local id = ARGV[1]
local late = 0
local oldest = call('ZRANGEBYSCORE', KEYS[3], '-inf', fmt('(%.0f', now), 'WITHSCORES', 'LIMIT', '0', '1')
if oldest[2] and overdue(tonumber(oldest[2]), now, gap_from, gap_to) then late = 1 end

local found = find(id)
if found == HELD then return found * 2 + late end
if found ~= UNKNOWN then return {found} end

local take = {at = now, tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), 1}
local mine = periods(now)
local scopes, short = {}, {-found, now, late}
local unpriced, next_session, begun = ARGV[8] == 'unpriced', 9, nil
local ample = true
for i = FIRST_SCOPE, #KEYS do
  local session = ARGV[next_session] and string.find(KEYS[i], ':scope:session:', 1, true) and ARGV[next_session]
  if session then next_session = next_session + 1 end
  local scope, known = read_scope(KEYS[i], session)
  -- A project whose limits are gone (an emptied Redis) must not spend without any.
  if not known and string.find(KEYS[i], ':project:', 1, true) then return {'unlimited', i - FIRST_SCOPE} end
  if scope then
    local taken = {}
    for n = 1, unpriced and scope.n or 0 do
      if scope.units[n] == UNITS.usd and scope.amounts[n] then return {'unpriced', i - FIRST_SCOPE} end
    end
    for n = 1, scope.n do taken[n] = taken_in(scope.taken[n], mine[scope.windows[n]]) or 0 end
    local asked = taken
    if take[3] == 0 then
      asked = {}
      for n = 1, scope.n do asked[n] = scope.units[n] == UNITS.concurrent and taken[n] or nil end
    end
    ample = check(short, i, scope, asked, take, mine) and ample
    local new = session and not call('HGET', KEYS[i], 'limits')
    if new then
      begun = fmt('%.0f begun -', mine.day)
      if tonumber(call('HGET', KEYS[7], begun) or 0) >= NEW_SESSIONS then
        for _, value in ipairs({i - FIRST_SCOPE, 'requests day', fmt('%.0f', NEW_SESSIONS), '0'}) do short[#short + 1] = value end
      end
    end
    scopes[#scopes + 1] = {KEYS[i], scope, taken, session, new}
  end
end
if #short > 3 then return short end

for _, entry in ipairs(scopes) do
  local scope, taken, set = entry[2], entry[3], {}
  if entry[5] then call('HINCRBY', KEYS[7], begun, '1') end
  for n = 1, scope.n do
    set[2 * n - 1] = scope.names[n]
    set[2 * n] = fmt('%.0f %.0f', mine[scope.windows[n]], taken[n] + take[scope.units[n]])
  end
  if entry[4] then
    set[#set + 1] = 'limits'
    set[#set + 1] = entry[4]
  end
  call('HSET', entry[1], unpack(set))
  if entry[4] then call('PEXPIRE', entry[1], SESSION_MS) end
end
call('HSET', KEYS[2], id, hold_text({take}, ARGV[6], ARGV[7]))
call('ZADD', KEYS[3], fmt('%.0f', now + tonumber(ARGV[2])), id)
return found * 2 + late + (ample and 16 or 0)
