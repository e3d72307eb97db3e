-- ARGV: id, nano-usd, tokens, requests, scopes. More of the same hold, in the hold's own windows; those that have ended
-- are neither asked nor charged.
-- {code}, or {-code, now, 0, [scope, "UNIT WINDOW", limit, left] ...} where it does not fit.
local now = tick()
local id = ARGV[1]
local found, text = find(id)
if not text then return {found} end
local hold = read_hold(text)
if hold.scopes ~= ARGV[5] then return redis.error_reply('SCOPES the hold was taken from ' .. hold.scopes) end
local more = {tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), 0}
local mine, present, short = periods(hold.created), periods(now), {-found, now, 0}
for i = FIRST_SCOPE, #KEYS do
  local scope = read_scope(KEYS[i])
  if scope then
    local taken = {}
    for n = 1, scope.n do
      local window = scope.windows[n]
      if scope.units[n] ~= UNITS.concurrent and mine[window] == present[window] then
        taken[n] = taken_in(scope.taken[n], mine[window]) or 0
      end
    end
    check(short, i, scope, taken, more, mine)
  end
end
if #short > 3 then return short end
change(mine, more, false)
if found == SWEPT then
  local day, model, token = read_swept(hold.rest)
  add_sums(day, more, model, token)
end
local sum = {hold[1] + more[1], hold[2] + more[2], hold[3] + more[3]}
call('HSET', found == HELD and KEYS[2] or KEYS[5], id, hold_text(hold.created, sum, hold.scopes, hold.rest))
return {found}
