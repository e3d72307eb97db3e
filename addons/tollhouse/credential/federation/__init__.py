"""Credentials that a provider gives for a token of the gateway's own identity. No key is kept anywhere.

subject           where the subject token comes from
workload_api      a subject token of the SPIFFE Workload API
subject_token     what a subject token says of itself
token_exchange    the subject token, exchanged at the provider's endpoint
exchange_answers  what an endpoint's answer means
federated_keys    the store's keys, and beside them what is exchanged, kept ready
"""
