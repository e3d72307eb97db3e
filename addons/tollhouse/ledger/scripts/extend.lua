-- ARGV: id, nano-usd, tokens, requests, scopes. More of the same hold, in the windows that run now,
-- which become the hold's own behind those that it has. {code}, or {-code, now, 0, [scope, "UNIT
-- WINDOW", limit, left] ...} where it does not fit.
local now = tick()
local id = ARGV[1]
local found, text = find(id)
if not text then return {found} end
local hold = read_hold(text)
if hold.scopes ~= ARGV[5] then return redis.error_reply('SCOPES the hold was taken from ' .. hold.scopes) end
local mine, short = periods(now), {-found, now, 0}
local more = {mine = mine, tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), 0}
for i = FIRST_SCOPE, #KEYS do
  local scope = read_scope(KEYS[i])
  if scope then
    local taken = {}
    for n = 1, scope.n do
      if scope.units[n] ~= UNITS.concurrent then taken[n] = taken_in(scope.taken[n], mine[scope.windows[n]]) or 0 end
    end
    check(short, i, scope, taken, more, mine)
  end
end
if #short > 3 then return short end
change({more}, true)
if found == SWEPT then
  local day, model, token, session = read_swept(hold.rest)
  add_sums(day, more, model, token, session)
  -- No record names it: the late settle takes back what the sweep's record named.
  call('HINCRBY', KEYS[5], id .. '+', fmt('%.0f', more[1]))
end
local parts = with_more(hold.parts, more, now)
call('HSET', found == HELD and KEYS[2] or KEYS[5], id, hold_text(parts, hold.scopes, hold.rest))
return {found}
