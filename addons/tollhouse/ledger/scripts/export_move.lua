-- KEYS: the tenant's exports. ARGV: a name, how far that export was, how far it is now. 0 if it is somewhere else by now.
if (call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
