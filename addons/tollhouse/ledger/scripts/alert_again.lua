-- KEYS: a clock that nobody sets; what is due of one receiver, the bodies, why the last attempt failed. ARGV: id, how long to wait
-- (ms), why, how long what waits is kept (ms). 0: it waits no more.
local now = read_clock()
if call('HEXISTS', KEYS[3], ARGV[1]) == 0 then return 0 end
call('ZADD', KEYS[2], fmt('%.0f', now + tonumber(ARGV[2])), ARGV[1])
call('HSET', KEYS[4], ARGV[1], ARGV[3])
call('PEXPIRE', KEYS[4], ARGV[4])
return 1
