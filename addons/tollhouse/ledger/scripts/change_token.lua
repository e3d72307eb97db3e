-- KEYS: the tokens by digest. ARGV: digest of the token, what is stored of it, what is to be. Done
-- twice it is as if done once. 1: done. 0: something else is stored by now.
local token, before, after = unpack(ARGV)
local kept = call('HGET', KEYS[1], token)
if kept ~= before and kept ~= after then return 0 end
call('HSET', KEYS[1], token, after)
return 1
