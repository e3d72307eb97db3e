"""What a call may cost is held before it leaves, and settled after.

reading                 the gate that reads the body    estimate    the tokens that it will take
purse                   the gate that holds; settling   growth      holds of streams without a cap
ledger, scripts/        hold, extend, renew, settle     keeping     what is done again and again
limits, windows, keys   what is counted, and where      report      what is counted, for people
store, pipeline         the way to Redis                embedded    Redis's part without a Redis
spool                   settles that wait for Redis
"""
