-- KEYS hold one scope, and behind it the list of the project's grants. ARGV: unit, amount, how many
-- grants are kept, the grant as it is written down, and how its id is written there if it has one.
-- Every limit of that unit has `amount` more in the period that it is in now, once. How many
-- limits; 0: there is none of that unit; -1: one would be larger than the ledger can count; a text:
-- the grant that was made with that id before. Then nothing was done.
local now = tick()
local unit, amount, key, record = ARGV[1], tonumber(ARGV[2]), KEYS[FIRST_SCOPE], KEYS[FIRST_SCOPE + 1]
for _, earlier in ipairs(ARGV[5] and call('LRANGE', record, '0', '-1') or {}) do
  if string.find(earlier, ARGV[5], 1, true) then return earlier end
end
local mine, texts, count = periods(now), {}, 0
for pair, of, window, limit, more, period in
  gmatch(call('HGET', key, 'limits') or '', '((%a+) (%a+)) ([%d-]+)%+?(%d*)@?(%d*)') do
  local granted = tonumber(period) == mine[window] and tonumber(more) or 0
  if of == unit and tonumber(limit) then
    granted = granted + amount
    if tonumber(limit) + granted > 9007199254740991 then return -1 end
    count = count + 1
  end
  texts[#texts + 1] = pair .. ' ' .. limit .. (granted > 0 and fmt('+%.0f@%.0f', granted, mine[window]) or '')
end
if count == 0 then return 0 end
call('HSET', key, 'limits', table.concat(texts, ';'))
call('RPUSH', record, ARGV[4])
call('LTRIM', record, '-' .. ARGV[3], '-1')
return count
