-- Put before every other script by store.py. The keys of a call, in this order, for every script:
--   1 clock      string  "LAST GAP_FROM GAP_TO", milliseconds: the tenant's latest time, and its last silence
--   2 holds      hash    call id -> "CREATED NANO_USD TOKENS REQUESTS\nSCOPE SCOPE\nCARRIED": what it holds in all, since when.
--                        What was held in later windows is a part of that, and stands behind CARRIED (see LATER)
--   3 deadlines  zset    call id -> milliseconds after which the hold may be swept
--   4 settled    zset    call id -> milliseconds when it ended (or was swept); kept for 24 hours after that. A call that held and
--                        cost nothing but its request is entered 22 hours earlier, and so kept for 2
--   5 swept      hash    call id -> "CREATED NANO_USD TOKENS REQUESTS\nSCOPE SCOPE\nDAY\31MODEL\31TOKEN", and behind it
--                        "\31SESSION" if the call has one, until a late settle or 24 hours, with later parts as in
--                        `holds`; all of these are in `settled` as well. "CALL ID+" -> nano-usd by which it grew after its sweep
--   6 calls      stream  one record a call
--   7 usage      hash    "DAY UNIT KIND NAME" -> sum, of one project; "DAY names -" -> how many models it has sums of,
--                        "DAY sessions -" how many sessions; "DAY begun -" how many records of sessions were begun
--   8.. scopes   hash    limits: "UNIT WINDOW AMOUNT;...", AMOUNT "-" where there was a limit once, which stays counted, and
--                        behind it "+GRANTED@PERIOD", what one period has more; and for each of these "UNIT WINDOW":
--                        "PERIOD TAKEN", used and held together in that period. Each hold writes the limits of a scope
--                        of the kind `session`, all of them `total`, and has the record end 7 days later
-- Numbers are doubles: exact up to 2^53 and always printed by %.0f. The window of the unit `concurrent` is `now`.
local call, pcall, floor, match, gmatch, fmt = redis.call, redis.pcall, math.floor, string.match, string.gmatch, string.format
local UNITS = {usd = 1, tokens = 2, requests = 3, concurrent = 4}
local FIRST_SCOPE = 8
-- The states of a call and their codes, by which a script replies in which one it found the call, negative where that state's
-- row asks for something that is not so: transitions.py, whose rows the scripts carry out.
local UNKNOWN, HELD, SWEPT, ENDED = 1, 2, 3, 4
local DAY_MS, HOUR_MS = 86400000, 3600000
-- A silence longer than this may have been an outage of Redis. Live calls renew every 20 s.
local SILENCE_MS = 30000
-- After a silence, a hold whose deadline fell into it has this long to be renewed.
local GRACE_MS = 60000
-- A limit has ample room for a hold that would fit into it so many times. Of calls at the same time so many times those that are
-- under way fit: others may begin while this one lasts.
local AMPLE = 8
-- How long an id is kept that held and cost nothing but a request.
local FREE_MS = 2 * HOUR_MS

-- The tenant's time never goes back over a window's edge: after a failover to a server whose clock is behind, the later
-- time stays in force until it is reached again. A difference of more than an hour is believed to be a mended clock.
local function read_clock()
  local time = --[[TIME]] redis.call('TIME') --[[/TIME]]
  local now = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
  local last, from, to = match(call('GET', KEYS[1]) or '', '^(%d+) (%d+) (%d+)$')
  if not last then return now, 0, 0 end
  last, from, to = tonumber(last), tonumber(from), tonumber(to)
  if last > now and last - now <= HOUR_MS then now = last end
  if now - last > SILENCE_MS then from, to = last, now end
  return now, from, to
end

local function tick()
  local now, from, to = read_clock()
  call('SET', KEYS[1], fmt('%.0f %.0f %.0f', now, from, to))
  return now, from, to
end

local function overdue(deadline, now, from, to)
  return deadline < now and not (deadline > from and deadline <= to and now < to + GRACE_MS)
end

-- The number of each window that `ms` lies in, UTC. Weeks begin on Monday (day 4 of the epoch was one). The month is
-- days-to-civil of http://howardhinnant.github.io/date_algorithms.html.
local function periods(ms)
  local s = floor(ms / 1000)
  local day = floor(s / 86400)
  local z = day + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return {minute = floor(s / 60), hour = floor(s / 3600), day = day, week = floor((day + 3) / 7),
    month = year * 12 + month - 1, total = 0, now = 0}
end

-- The scope's limits, as three lists (field, unit and amount; "-" is no limit), the windows, and what each field says.
-- nil if nothing is counted here; the second value is false if the scope has no limits record at all. `limits` are the scope's
-- limits if they are known already.
local function read_scope(key, limits)
  limits = limits or call('HGET', key, 'limits')
  if not limits or limits == '' then return nil, limits end
  local n, names, units, windows, amounts, granted = 0, {}, {}, {}, {}, nil
  for name, unit, window, amount, more, period in gmatch(limits, '((%a+) (%a+)) ([%d-]+)%+?(%d*)@?(%d*)') do
    n = n + 1
    names[n], units[n], windows[n], amounts[n] = name, UNITS[unit], window, tonumber(amount)
    if more ~= '' then
      granted = granted or {}
      granted[n] = {tonumber(more), tonumber(period)}
    end
  end
  local taken = call('HMGET', key, unpack(names))
  return {n = n, names = names, units = units, windows = windows, amounts = amounts, granted = granted, taken = taken}, limits
end

-- What limit `n` of the scope has more in the periods `mine`.
local function granted_in(scope, n, mine)
  local more = scope.granted and scope.granted[n]
  return more and more[2] == mine[scope.windows[n]] and more[1] or 0
end

-- What is taken in `period`, by a text "PERIOD TAKEN"; nil if it is of another period.
local function taken_in(text, period)
  if not text then return nil end
  local at, amount = match(text, '^(%d+) (%d+)$')
  if tonumber(at) == period then return tonumber(amount) end
  return nil
end

-- Behind what a hold carries, or what it was booked under: "AT NANO_USD TOKENS REQUESTS" of each
-- later part, AT in milliseconds. No carried text has the byte 30. A version that knows no parts
-- reads one more carried field.
local LATER = '\31held_in\30\31'

-- `parts` are what is held, each {at, usd, tokens, requests}, in the order in which it was held;
-- the hold itself has their sum.
local function read_hold(text)
  local created, usd, tokens, requests, scopes, rest = match(text, '^(%d+) (%d+) (%d+) (%d+)\n([^\n]*)\n(.*)$')
  local hold = {created = tonumber(created), tonumber(usd), tonumber(tokens), tonumber(requests), scopes = scopes, rest = rest}
  local first = {at = hold.created, hold[1], hold[2], hold[3]}
  hold.parts = {first}
  local from, to = string.find(rest, LATER, 1, true)
  if from then
    hold.rest = string.sub(rest, 1, from - 1)
    for at, u, t, r in gmatch(string.sub(rest, to + 1), '(%d+) (%d+) (%d+) (%d+)') do
      local part = {at = tonumber(at), tonumber(u), tonumber(t), tonumber(r)}
      for n = 1, 3 do first[n] = first[n] - part[n] end
      hold.parts[#hold.parts + 1] = part
    end
  end
  return hold
end

local function hold_text(parts, scopes, rest)
  local sum, later = {0, 0, 0}, {}
  for p, part in ipairs(parts) do
    for n = 1, 3 do sum[n] = sum[n] + part[n] end
    if p > 1 then later[p - 1] = fmt('%.0f %.0f %.0f %.0f', part.at, part[1], part[2], part[3]) end
  end
  if #later > 0 then rest = rest .. LATER .. table.concat(later, ' ') end
  return fmt('%.0f %.0f %.0f %.0f\n%s\n%s', parts[1].at, sum[1], sum[2], sum[3], scopes, rest)
end

-- `parts` with `more` behind them. Neighbours become one where no window that runs tells them
-- apart, which changes no counter: a window that has ended takes nothing any more. So there is one
-- part for each length of window at most.
local function with_more(parts, more, now)
  local kept, present, windows = {}, periods(now), {}
  for n = 1, #parts + 1 do
    local part = parts[n] or {at = now, more[1], more[2], more[3]}
    local before, its, apart = kept[#kept], periods(part.at), false
    for window, period in pairs(its) do
      local other = before and windows[#kept][window]
      if other ~= period and (other == present[window] or period == present[window]) then apart = true end
    end
    if before and not apart then
      for u = 1, 3 do before[u] = before[u] + part[u] end
    else
      kept[#kept + 1], windows[#kept + 1] = part, its
    end
  end
  return kept
end

-- The state of a call, and its text if it is held or swept.
local function find(id)
  local text = call('HGET', KEYS[2], id)
  if text then return HELD, text end
  if not call('ZSCORE', KEYS[4], id) then return UNKNOWN end
  text = call('HGET', KEYS[5], id)
  return text and SWEPT or ENDED, text
end

-- Adds each of `deltas` (usd, tokens, requests, calls under way, and `mine`, the periods that they
-- are of) to every scope's counters, but only to those that are in that period; one that has ended
-- is never revived. `open` lets the period of the only delta begin where nothing is recorded of it.
local function change(deltas, open)
  for i = FIRST_SCOPE, #KEYS do
    local scope = read_scope(KEYS[i])
    if scope then
      local set = {}
      for n = 1, scope.n do
        local sum, period
        for _, delta in ipairs(deltas) do
          local its = delta.mine[scope.windows[n]]
          local taken = taken_in(scope.taken[n], its)
          if taken or open then
            sum, period = (sum or taken or 0) + delta[scope.units[n]], its
          end
        end
        if sum then
          set[#set + 1] = scope.names[n]
          set[#set + 1] = fmt('%.0f %.0f', period, math.max(sum, 0))
        end
      end
      if #set > 0 then call('HSET', KEYS[i], unpack(set)) end
    end
  end
end

-- Appends to `short` every limit of scope `i` that `take` does not fit into, by what `taken` says of each. True if each limit has
-- ample room for it.
local function check(short, i, scope, taken, take, mine)
  local ample = true
  for n = 1, scope.n do
    local unit, limit = scope.units[n], scope.amounts[n]
    if limit and scope.granted then limit = limit + granted_in(scope, n, mine) end
    if limit and taken[n] and taken[n] + take[unit] > limit then
      short[#short + 1] = i - FIRST_SCOPE
      short[#short + 1] = scope.names[n]
      short[#short + 1] = fmt('%.0f', limit)
      short[#short + 1] = fmt('%.0f', math.max(limit - taken[n], 0))
    elseif limit and taken[n] then
      local others = unit == UNITS.concurrent and AMPLE * taken[n] or taken[n]
      if others + AMPLE * take[unit] > limit then ample = false end
    end
  end
  return ample
end

local SUM_DAYS = 400
-- Agents have a new session for each piece of work, so that the sums of sessions would soon be most of what there is.
local SESSION_DAYS = 31
-- Models, and sessions, that a project has sums of in a day; what more a client may invent is summed together.
local SUM_MODELS = 1000

-- The name under which `name`, of `kind`, is summed: its own if it has sums of that day or there is room for
-- it. `counted` is the field that counts the names.
local function summed_as(usage, prefix, kind, name, counted)
  if name == '-' then return name end
  local of = kind .. name
  local known = call('HMGET', usage, prefix .. ' usd' .. of, prefix .. ' tokens' .. of, prefix .. ' requests' .. of)
  if known[1] or known[2] or known[3] then return name end
  local count = prefix .. counted
  if tonumber(call('HGET', usage, count) or 0) >= SUM_MODELS then return 'other' end
  call('HINCRBY', usage, count, '1')
  return name
end

-- Adds to the project's sums of `day`, by day, model, token and session (none if it is ''); the names of
-- the model and of the session there. The first call of a day removes what is too old.
local function add_sums(day, delta, model, token, session)
  local usage = KEYS[7]
  local prefix = fmt('%.0f', day)
  if call('HEXISTS', usage, prefix .. ' requests day') == 0 then
    for _, name in ipairs(call('HKEYS', usage)) do
      local of, kind = match(name, '^(%d+) %a+ (%S+)')
      if tonumber(of) <= day - (kind == 'session' and SESSION_DAYS or SUM_DAYS) then call('HDEL', usage, name) end
    end
  end
  model = summed_as(usage, prefix, ' model ', model, ' names -')
  if session ~= '' then session = summed_as(usage, prefix, ' session ', session, ' sessions -') end
  for u, unit in ipairs({'usd', 'tokens', 'requests'}) do
    local by = fmt('%.0f', delta[u])
    -- A sum that would pass 2^63 stays where it is: an error here would leave the call half settled.
    pcall('HINCRBY', usage, prefix .. ' ' .. unit .. ' day', by)
    if by ~= '0' then
      pcall('HINCRBY', usage, prefix .. ' ' .. unit .. ' model ' .. model, by)
      if token ~= '' then pcall('HINCRBY', usage, prefix .. ' ' .. unit .. ' token ' .. token, by) end
      if session ~= '' then pcall('HINCRBY', usage, prefix .. ' ' .. unit .. ' session ' .. session, by) end
    end
  end
  return model, session
end

-- What a swept hold was booked under: the day, the model, the token and the session. `swept_text` is its
-- `rest`. Earlier versions wrote no session, and so does this one if the call has none.
local function swept_text(day, model, token, session)
  return fmt('%.0f\31%s\31%s', day, model, token) .. (session ~= '' and '\31' .. session or '')
end

local function read_swept(rest)
  local day, model, token, session = match(rest, '^(%d+)\31([^\31]*)\31([^\31]*)\31?(.*)$')
  return tonumber(day), model, token, session
end

-- Marks the call as ended and forgets the oldest of those that ended more than 24 hours ago: two at
-- most, more than the one that was added, so the set shrinks to its 24 hours and no call pays for
-- many. `free`: see `settled` above.
local function mark_ended(id, now, free)
  call('ZADD', KEYS[4], fmt('%.0f', free and now - DAY_MS + FREE_MS or now), id)
  for _, old in ipairs(call('ZRANGEBYSCORE', KEYS[4], '-inf', fmt('(%.0f', now - DAY_MS), 'LIMIT', '0', '2')) do
    call('ZREM', KEYS[4], old)
    call('HDEL', KEYS[5], old, old .. '+')
  end
end
