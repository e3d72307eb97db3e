"""What changes a running gateway, or its stores while it is stopped. It speaks to the commands.

operations   what the commands do to projects, tokens and budgets
overview     what the status page shows, and to whom
socket       the control socket of a running gateway
client       how a command reaches the stores: Redis, the socket, or the embedded store's file
lock         one process owns a state directory
key_desk     what `key list` and `key test` ask
settings     projects and tenants of the file, as operations take them
"""
