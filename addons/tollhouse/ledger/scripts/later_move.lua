-- KEYS: as for later_get. ARGV: a field and its record, and those that come in their place. 1 if the
-- call waits there now, or waits no more where it did; 0 if another call waits there.
if call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 1 end
if call('HEXISTS', KEYS[1], ARGV[3]) == 1 then return 0 end
call('HSET', KEYS[1], ARGV[3], ARGV[4])
return call('HDEL', KEYS[1], ARGV[1])
