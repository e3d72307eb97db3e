"""Who there is: projects, tenants, tokens. It speaks to Redis through `ledger`.

directory      projects and tokens in Redis, read through a cache of 5 seconds
paged          projects and tokens, page by page
stored         projects and tokens as Redis has them
token_record   what a gate asks of a directory, as a protocol
remembered     what Redis said of them in the last 5 minutes, for ``unsafe_fail_open``
objects        which tenant's calls got which objects that a provider keeps
subjects       identities for which no gate token was made: their limits, and whether they were revoked
token          gate tokens: how they are made, checked and taken out of text
"""
