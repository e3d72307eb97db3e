-- KEYS: what only one may have. ARGV: who asks, and for how long, ms; 0 gives it back. 1 if it has it.
local who = call('GET', KEYS[1])
if who and who ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then call('DEL', KEYS[1]) else call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1
