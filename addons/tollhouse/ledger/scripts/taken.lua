-- KEYS: a tenant's clock, then the keys of scopes. ARGV: a share, in per cent. Reads only, and no hold. As show.lua answers, of
-- those limits alone of which so much is taken, with 0 in the place of what is held: `taken` is used and held together.
local now = read_clock()
local share, mine, answer = tonumber(ARGV[1]), periods(now), {fmt('%.0f', now)}
for i = 2, #KEYS do
  local scope, rows = read_scope(KEYS[i]), {}
  for n = 1, scope and scope.n or 0 do
    local amount, granted = scope.amounts[n], granted_in(scope, n, mine)
    local taken = taken_in(scope.taken[n], mine[scope.windows[n]]) or 0
    if amount and taken * 100 >= (amount + granted) * share then
      rows[#rows + 1] = scope.names[n]
      rows[#rows + 1] = fmt('%.0f', amount)
      rows[#rows + 1] = fmt('%.0f', granted)
      rows[#rows + 1] = fmt('%.0f', taken)
      rows[#rows + 1] = '0'
    end
  end
  answer[#answer + 1] = rows
end
return answer
