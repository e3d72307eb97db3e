"""What changes a running gateway, or its stores while it is stopped. It speaks to the commands.

operations   every operation by its name; what the commands do to projects
token_desk   what the commands do to tokens
budget_desk  what the commands ask of budgets, and how they add to one
records_desk  what the commands ask of the records of calls
audit_desk   the audit log: who changed what
actor        who has an operation done
described    projects and tokens as answers have them
people_desk  whom an OpenID provider names
overview     what the status page shows, and to whom
refusal      how an operation is refused
socket       the control socket of a running gateway
client       how a command reaches the stores: Redis, the socket, or the embedded store's file
lock         one process owns a state directory
key_desk     what `key list` and `key test` ask
settings     projects and tenants of the file, as operations take them
"""
