-- ARGV: the scopes' names, one each. Reads only. {now, [[unit window, limit, granted, taken, held] ...] for each scope}:
-- `taken` is used and held together, numbers are text.
local now = read_clock()
local mine, answer, held, place = periods(now), {fmt('%.0f', now)}, {}, {}
for i, name in ipairs(ARGV) do
  place[name] = i
  held[i] = {}
end
for _, text in ipairs(call('HVALS', KEYS[2])) do
  local hold = read_hold(text)
  hold.parts[1][4] = 1
  for name in gmatch(hold.scopes, '%S+') do
    local sums = held[place[name]]
    for _, part in ipairs(sums and hold.parts or {}) do
      for window, period in pairs(periods(part.at)) do
        if period == mine[window] then
          local sum = sums[window] or {0, 0, 0, 0}
          for u = 1, 4 do sum[u] = sum[u] + (part[u] or 0) end
          sums[window] = sum
        end
      end
    end
  end
end
for i = FIRST_SCOPE, #KEYS do
  local scope, rows = read_scope(KEYS[i]), {}
  for n = 1, scope and scope.n or 0 do
    if scope.amounts[n] then
      local window = scope.windows[n]
      local sum = held[i - FIRST_SCOPE + 1][window]
      rows[#rows + 1] = scope.names[n]
      rows[#rows + 1] = fmt('%.0f', scope.amounts[n])
      rows[#rows + 1] = fmt('%.0f', granted_in(scope, n, mine))
      rows[#rows + 1] = fmt('%.0f', taken_in(scope.taken[n], mine[window]) or 0)
      rows[#rows + 1] = fmt('%.0f', sum and sum[scope.units[n]] or 0)
    end
  end
  answer[#answer + 1] = rows
end
return answer
