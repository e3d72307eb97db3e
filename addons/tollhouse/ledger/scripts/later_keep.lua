-- KEYS: those of a call without scopes, then the tenant's calls whose usage comes later. ARGV: call
-- id, lifetime of its hold ms, lifetime of the record ms, how many are kept, field, record. The hold
-- stays for its lifetime. 1 if it is kept; 0 if there is no such hold, if another call waits for the
-- same answer, or if too many wait.
local now = tick()
local id, field = ARGV[1], ARGV[5]
if find(id) ~= HELD then return 0 end
if call('HEXISTS', KEYS[8], field) == 1 then return 0 end
if call('HLEN', KEYS[8]) >= tonumber(ARGV[4]) then return 0 end
call('ZADD', KEYS[3], fmt('%.0f', now + tonumber(ARGV[2])), id)
call('HSET', KEYS[8], field, ARGV[6])
call('PEXPIRE', KEYS[8], ARGV[3])
return 1
