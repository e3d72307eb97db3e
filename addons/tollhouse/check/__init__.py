"""What `tollhouse check` looks at. It reaches for everything that the configuration names, and it
changes nothing.

check         the order of the looks
fallback_prices  whether a fallback has a price for what it may be asked for
collector     the collector of telemetry: does it take spans
finding       one thing that it has to say
named_files   files that the configuration names, and the CA
issuers       the keys of the issuers of identities, and rules that can't be kept
own_addons    the operator's own mitmproxy addons, which are run for it
opened_paths  the endpoints that entries open beside their families'
ports         the listeners' ports
receivers     who is told of alerts
redis         each Redis server: can it be reached, and can it keep a ledger
redis_facts   what one Redis server says of itself
subject_tokens  the subject tokens of credentials that are exchanged
vault         the login to Vault, and each provider's key
"""
