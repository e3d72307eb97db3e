-- KEYS: a stream. ARGV: its length, then field, value, ... of a record.
call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
return 1
