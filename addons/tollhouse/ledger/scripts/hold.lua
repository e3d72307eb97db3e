-- ARGV: id, lifetime ms, nano-usd, tokens, requests, scopes, carried, and "unpriced" if nobody knows what it will cost.
-- An integer, twice the code and 1 more if a hold is overdue: it is held now, or was already (one number, because a client
-- reads that faster than two). {-code, now, overdue, [scope, "UNIT WINDOW", limit, left] ...}: every limit that does not fit;
-- nothing was changed. A hold of no request is a place: only limits of calls at the same time are asked. {code}: it is swept or has ended. {"unlimited", scope}: the project has no limits record.
-- {"unpriced", scope}: this scope's limits are in money.
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
for i = FIRST_SCOPE, #KEYS do
  local scope, known = read_scope(KEYS[i])
  -- A project whose limits are gone (an emptied Redis) must not spend without any.
  if not known and string.find(KEYS[i], ':project:', 1, true) then return {'unlimited', i - FIRST_SCOPE} end
  if scope then
    local taken = {}
    for n = 1, ARGV[8] and scope.n or 0 do
      if scope.units[n] == UNITS.usd and scope.amounts[n] then return {'unpriced', i - FIRST_SCOPE} end
    end
    for n = 1, scope.n do taken[n] = taken_in(scope.taken[n], mine[scope.windows[n]]) or 0 end
    local asked = taken
    if take[3] == 0 then
      asked = {}
      for n = 1, scope.n do asked[n] = scope.units[n] == UNITS.concurrent and taken[n] or nil end
    end
    check(short, i, scope, asked, take, mine)
    scopes[#scopes + 1] = {KEYS[i], scope, taken}
  end
end
if #short > 3 then return short end

for _, entry in ipairs(scopes) do
  local scope, taken, set = entry[2], entry[3], {}
  for n = 1, scope.n do
    set[2 * n - 1] = scope.names[n]
    set[2 * n] = fmt('%.0f %.0f', mine[scope.windows[n]], taken[n] + take[scope.units[n]])
  end
  call('HSET', entry[1], unpack(set))
end
call('HSET', KEYS[2], id, hold_text({take}, ARGV[6], ARGV[7]))
call('ZADD', KEYS[3], fmt('%.0f', now + tonumber(ARGV[2])), id)
return found * 2 + late
