-- KEYS: a clock that nobody sets; of one receiver what is due, the bodies, and the attempts by ID. ARGV: how many, and for how long
-- nobody else gets them, ms. {how many wait in all, id, attempts with this one, body, ...}, what is due first at the front.
local now = read_clock()
local answer = {call('ZCARD', KEYS[2])}
for _, id in ipairs(call('ZRANGEBYSCORE', KEYS[2], '-inf', fmt('%.0f', now), 'LIMIT', '0', ARGV[1])) do
  local body = call('HGET', KEYS[3], id)
  if body then
    call('ZADD', KEYS[2], fmt('%.0f', now + tonumber(ARGV[2])), id)
    answer[#answer + 1] = id
    answer[#answer + 1] = call('HINCRBY', KEYS[4], id, '1')
    answer[#answer + 1] = body
  else
    call('ZREM', KEYS[2], id)
  end
end
return answer
