-- ARGV: id, lifetime ms. The code; the deadline is moved if it is held.
local now = tick()
local found = find(ARGV[1])
if found == HELD then call('ZADD', KEYS[3], fmt('%.0f', now + tonumber(ARGV[2])), ARGV[1]) end
return found
