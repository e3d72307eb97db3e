-- KEYS: the tokens by digest; the digests by id. ARGV: digest of the old token, what is stored of
-- it, what is to be; digest, id and record of the new one. All or nothing, and done twice it is as
-- if done once. 1: done. 0: something else is stored of the old token by now. -1: the new token is
-- there already.
local old, before, after, new, id, record = unpack(ARGV)
local kept, other = call('HGET', KEYS[1], old), call('HGET', KEYS[1], new)
if other and other ~= record then return -1 end
if kept ~= before and not (other and kept == after) then return 0 end
call('HSET', KEYS[1], new, record, old, after)
call('HSET', KEYS[2], id, new)
return 1
