-- KEYS hold one scope. ARGV: its name, then unit, window, amount of each limit. Replaces the limits; what was counted
-- stays, also of a limit that is taken away, and what was granted stays granted. A pair of unit and window that is new
-- here begins with the holds under way, and in a project with the sums of its days (none are kept by minute or hour).
local now = tick()
local name, key = ARGV[1], KEYS[FIRST_SCOPE]
local mine, wanted, order = periods(now), {}, {}
for n = 2, #ARGV, 3 do
  local pair = ARGV[n] .. ' ' .. ARGV[n + 1]
  wanted[pair] = ARGV[n + 2]
  order[#order + 1] = pair
end
local before = {}
for pair, window, granted, period in gmatch(call('HGET', key, 'limits') or '', '(%a+ (%a+)) [%d-]+(%+?%d*@?(%d*))') do
  before[pair] = tonumber(period) == mine[window] and granted or ''
  if not wanted[pair] then
    wanted[pair] = '-'
    order[#order + 1] = pair
  end
end

local SUMMED = {day = true, week = true, month = true, total = true}
local texts = {}
for n, pair in ipairs(order) do
  texts[n] = pair .. ' ' .. wanted[pair] .. (before[pair] or '')
  if not before[pair] then
    local unit, window = match(pair, '^(%a+) (%a+)$')
    local sum = 0
    for _, text in ipairs(call('HVALS', KEYS[2])) do
      local hold = read_hold(text)
      hold.parts[1][4] = 1
      for scope in gmatch(hold.scopes, '%S+') do
        for _, part in ipairs(scope == name and hold.parts or {}) do
          if periods(part.at)[window] == mine[window] then sum = sum + (part[UNITS[unit]] or 0) end
        end
      end
    end
    if SUMMED[window] and match(name, '^project:') then
      local days = call('HGETALL', KEYS[7])
      for d = 1, #days, 2 do
        local day, of = match(days[d], '^(%d+) (%a+) day$')
        if of == unit and periods(tonumber(day) * DAY_MS)[window] == mine[window] then sum = sum + tonumber(days[d + 1]) end
      end
    end
    call('HSET', key, pair, fmt('%.0f %.0f', mine[window], math.max(sum, 0)))
  end
end
call('HSET', key, 'limits', table.concat(texts, ';'))
return #order
