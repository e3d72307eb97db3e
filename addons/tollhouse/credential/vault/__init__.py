"""Speaks to HashiCorp Vault or OpenBao. Everything here blocks: `credential.workers` runs it in
threads.

reader           reads of keys, and the login kept alive
auth             the ways to log in
connection       requests through hvac
dynamic_secrets  what the AWS engine leases
leased_keys      the keys of one of its roles, kept alive and given back
replies          what an answer of Vault means
embedded_vault   the same without a Vault: one encrypted file
"""
