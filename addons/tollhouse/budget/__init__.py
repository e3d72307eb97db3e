"""What a call may cost is held before it leaves, and settled after.

reading                 the gate that reads the body    estimate    the tokens that it will take
media, pixels           of images, audio, files         charges     what is held and charged, in money
purse                   the gate that holds; settling   growth      holds of streams without a cap
ledger, scripts/        hold, extend, renew, settle     transitions what they do to a call, as a table
limits, windows, keys   what is counted, and where      report      what is counted, for people
store, pipeline         the way to Redis                embedded    Redis's part without a Redis
spool                   settles that wait for Redis     keeping     what is done again and again
fail_open               calls without a hold            outage      whether Redis really is away
refusal                 what a call is told that does not fit
"""
