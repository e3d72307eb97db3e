"""tollhouse.toml. It is read whole, and every problem is told at once. It speaks to the file alone.

load            the file, read and judged
models          its tables and their keys
store_tables    its tables of Redis and Vault
price_tables    its tables of prices
alert_tables    its table of who is told of alerts
surroundings    its tables of the process and of the network around it
values          single values: files, names, amounts
addresses       single values: addresses and host names
store_places    single values: where Redis and Vault are, and places in Vault
entries         the providers as the file makes them
exchanges       the credential of an entry: what it makes of a provider, and its rules
rules           rules that need two keys at once; what this version does not do yet
provider_rules  those of providers, tunnels and routes
price_rules     those of prices
alert_rules     those of who is told of alerts
openings        those of the endpoints that an entry opens
text            the words of every problem
"""
