-- KEYS: a stream. ARGV: its length, then field, value, ... of the record of a call that was charged nothing.
call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
return 1
