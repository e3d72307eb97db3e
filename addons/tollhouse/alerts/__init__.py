"""Tells people when a budget is nearly used, and when something is wrong that they can mend. Nothing here is on the road of a call.

event       what is told, and what it is told once for
conditions  what one process sees of the gateway: keys, breakers, the spool, refusals
thresholds  how much of the limits is used, as the ledger has it
outbox      what is to be sent, in Redis: each event once for each receiver
webhooks    an event in a receiver's form, and its signature
receiver    who is told, and the way there
sender      sends what is in the outbox, again and again
watch       the task of a process that does all of it
alert_desk  `tollhouse alerts`
from_config  receivers, as the configuration names them
"""
