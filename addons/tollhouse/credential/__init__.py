"""Where providers' keys come from: a store, read ahead of the calls that need them.

cache, entry            keys, kept ready                pauses      those to be left alone
lease                   what a call is given            secret      the one object that holds a key
fields                  what a secret holds             workers     threads for what blocks
paths                   where a key is looked for        aws         signatures
google                  access tokens                   google_endpoint  where they are minted
vault                   reads, the login kept alive     vault_auth  the ways to log in
vault_client            requests, through hvac          answer      what Vault's answers mean
embedded                Vault's part without a Vault    environment keys where none should be
"""
