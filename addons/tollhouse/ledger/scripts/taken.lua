-- KEYS: a tenant's clock, then the keys of scopes. Reads only, and no hold. As show.lua answers, with 0 in the place of what is
-- held: `taken` is used and held together.
local now = read_clock()
local mine, answer = periods(now), {fmt('%.0f', now)}
for i = 2, #KEYS do
  local scope, rows = read_scope(KEYS[i]), {}
  for n = 1, scope and scope.n or 0 do
    if scope.amounts[n] then
      rows[#rows + 1] = scope.names[n]
      rows[#rows + 1] = fmt('%.0f', scope.amounts[n])
      rows[#rows + 1] = fmt('%.0f', granted_in(scope, n, mine))
      rows[#rows + 1] = fmt('%.0f', taken_in(scope.taken[n], mine[scope.windows[n]]) or 0)
      rows[#rows + 1] = '0'
    end
  end
  answer[#answer + 1] = rows
end
return answer
