-- KEYS: the tenant's clock; its objects at one provider, digest -> until when it is kept, ms.
-- ARGV: how long an object is kept, ms; how many are kept; digests. Done twice it is as if done
-- once. Beyond the bound those go that were used longest ago.
local now = read_clock()
local lives, most = tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 3, #ARGV do call('ZADD', KEYS[2], fmt('%.0f', now + lives), ARGV[i]) end
local ended = call('ZRANGEBYSCORE', KEYS[2], '-inf', fmt('%.0f', now), 'LIMIT', '0', '100')
if #ended > 0 then call('ZREM', KEYS[2], unpack(ended)) end
local over = call('ZCARD', KEYS[2]) - most
if over > 0 then call('ZREMRANGEBYRANK', KEYS[2], '0', fmt('%.0f', over - 1)) end
call('PEXPIRE', KEYS[2], ARGV[1])
return #ARGV - 2
