"""Where providers' keys come from: leases, read ahead of the calls that need them.

cache         keys, kept ready
beside_keys   client certificates and passwords of proxies, kept ready
entry         what is noted of one path of the store
read_notes    what is noted of a read, and what the log says of it
lease_reader  leases, made of what the store has at one path
lease         what a call is given, and how a store says no
secret        the one object that holds a key
fields        what a secret of the store holds, by its shape
paths         where a key is looked for
pauses        keys that are left alone for a while
login         the login to the store, kept alive
workers       threads for what blocks
environment   provider keys in the gateway's own environment
redact        takes keys out of answers
vault/        speaks to Vault
cloud/        makes the credentials of AWS and Google
federation/   credentials that are exchanged for the gateway's own identity
"""
