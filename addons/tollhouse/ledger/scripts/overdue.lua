-- ARGV: how many. {id, record, ...} of the holds that may be swept, oldest deadline first; changes nothing but the clock.
local now, gap_from, gap_to = tick()
local answer = {}
local late = call('ZRANGEBYSCORE', KEYS[3], '-inf', fmt('(%.0f', now), 'WITHSCORES', 'LIMIT', '0', ARGV[1])
for i = 1, #late, 2 do
  local text = call('HGET', KEYS[2], late[i])
  if not text then
    call('ZREM', KEYS[3], late[i])
  elseif overdue(tonumber(late[i + 1]), now, gap_from, gap_to) then
    answer[#answer + 1] = late[i]
    answer[#answer + 1] = text
  end
end
return answer
