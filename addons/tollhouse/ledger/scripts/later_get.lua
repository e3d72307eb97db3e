-- KEYS: the tenant's calls whose usage comes later. ARGV: a field, or nothing. Its record, or all fields.
if ARGV[1] then return call('HGET', KEYS[1], ARGV[1]) end
return call('HKEYS', KEYS[1])
