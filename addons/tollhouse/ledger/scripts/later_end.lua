-- KEYS: as for later_get. ARGV: a field and its record. Removed if it still has that record.
if call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return call('HDEL', KEYS[1], ARGV[1])
