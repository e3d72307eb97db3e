-- ARGV: id, lifetime ms. 1: the deadline was moved. 0: there is no live hold (swept, settled or unknown).
local now = tick()
if call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
call('ZADD', KEYS[3], fmt('%.0f', now + tonumber(ARGV[2])), ARGV[1])
return 1
