-- KEYS: a clock that nobody sets; which events were told of, "ID RECEIVER" -> until when that is known, ms; the counts, "RECEIVER
-- OUTCOME"; then of each receiver what is due, ID -> when, ms, and the bodies, by ID. ARGV: id, until when it is known (ms), how
-- many may wait for a receiver, how long what waits is kept (ms), body, the receivers' names. Done twice it is as if done once.
-- Of each receiver 1: put there. 0: it was before. -1: there is no room, and it will not be told.
local now = read_clock()
local id, most, kept, body = ARGV[1], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local ended = call('ZRANGEBYSCORE', KEYS[2], '-inf', fmt('%.0f', now), 'LIMIT', '0', '100')
if #ended > 0 then call('ZREM', KEYS[2], unpack(ended)) end
local answer = {}
for n = 6, #ARGV do
  local due, bodies = KEYS[2 * n - 8], KEYS[2 * n - 7]
  if call('ZADD', KEYS[2], 'NX', ARGV[2], id .. ' ' .. ARGV[n]) == 0 then
    answer[n - 5] = 0
  elseif call('ZCARD', due) >= most then
    call('HINCRBY', KEYS[3], ARGV[n] .. ' dropped', '1')
    answer[n - 5] = -1
  else
    call('HSET', bodies, id, body)
    call('ZADD', due, fmt('%.0f', now), id)
    call('HINCRBY', KEYS[3], ARGV[n] .. ' fired', '1')
    answer[n - 5] = 1
  end
  call('PEXPIRE', due, kept)
  call('PEXPIRE', bodies, kept)
end
-- A write also where all was there before, so that WAIT waits for it.
call('PEXPIRE', KEYS[2], '315360000000')
return answer
