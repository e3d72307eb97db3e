"""tollhouse.toml. It is read whole, and every problem is told at once. It speaks to the file alone.

load       the file, read and judged
models     the tables and their keys
values     single values: addresses, host names, paths, URLs
rules      rules that need two keys at once; what this version does not do yet
exchanges  the credential of an entry: what it makes of a provider, and its rules
surroundings   its tables of the process and of the network around it
openings   rules of the endpoints that an entry opens
text       the words of every problem
"""
