"""The state of all budgets in Redis, changed by Lua scripts alone. It speaks to Redis through `store`.

ledger         hold, extend, renew, settle, sweep: one script each
hold_reply     what a hold, an extension and a grant are answered
transitions    what the scripts do to a call, as one table
limits         limits as people write them
windows        when a limit's window begins and ends
names          who is charged, and the keys in Redis
records        what Redis keeps of a call as text
streams        the records of calls, in pages
uncharged      records of calls that were charged nothing, told to Redis once a second
history        sums, last calls and last refusals, to look at
report         what a command prints of it
spool          settles that Redis could not be told, told again later
spool_file     their SQLite file
spool_schema   the tables of that file
spool_record   one of them
spool_old      the spool of earlier versions
store/         the connection to Redis
scripts/       the Lua scripts
"""
