"""What a call may cost is held before it leaves and settled after. It speaks to `ledger`.

place        the gate that takes a place for a body that is still coming
purse        the gate that holds, and the settle at the end of the call
enlarging    larger holds, for calls under way
hold         what is held for one call under way
charges      how much is held, and how much is charged, by which rule
quoting      the prices of what a call used
afterwards   calls whose usage comes later
forgotten    calls of which Redis can't say whether they were charged
poller       who asks providers for it
cross_check  whether a deployment answers as the model that the configuration says
growth       the holds of streams without an output cap
refusals     what a call is told that does not fit its budget
fail_open    calls without a hold, while Redis is away
renewal      the thread that renews holds
keeper       what the ledger needs again and again: health, renewal, spool, sweep
"""
