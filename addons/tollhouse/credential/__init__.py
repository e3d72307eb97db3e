"""Where providers' keys come from: a store, read ahead of the calls that need them.

cache                   keys, kept ready                entry       what is told of a path of the store
lease                   what a call is given            secret      the one object that holds a key
fields                  what a secret holds             pauses      keys to be left alone
paths                   where a key is looked for       workers     threads for what blocks
login                   the login, looked after         environment keys where none should be
redact                  keys in answers

vault/                  auth, connection, reader, replies: Vault's part; embedded_vault: the same without a Vault
cloud/aws               signatures
cloud/google            access tokens                   google_endpoint  where they are minted
cloud/token_host        POSTs to one URL, for what gives tokens
"""
