-- KEYS: what is due of one receiver, the bodies, the attempts, why the last one failed; the counts. ARGV: id, "RECEIVER OUTCOME".
-- 1: it waits no more. 0: it did not before.
call('ZREM', KEYS[1], ARGV[1])
call('HDEL', KEYS[3], ARGV[1])
call('HDEL', KEYS[4], ARGV[1])
if call('HDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
call('HINCRBY', KEYS[5], ARGV[2], '1')
return 1
