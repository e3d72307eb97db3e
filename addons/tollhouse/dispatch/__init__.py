"""The way out of a cleared call and the way back of its answer. `mitm` is the client's side, `upstream` the provider's.

exchange                a request and its answer        mitm/       from a client's bytes to an exchange
relay                   one call, out and back          attempts    the retry loop; `retry` has its rules
breaker, window         pauses of failing providers     upstream    one attempt
sign                    the key is put on here          verdict     what an error says of the key
resolve, guard          which address may be dialled    transport   aiohttp bent to our rules
answer                  what a provider answered
"""
