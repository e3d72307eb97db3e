"""Who calls, where to, on whose account: the first gate, and the addon that judges tunnels before it.

tunnel                  CONNECT and TLS handshakes      gate        the order of what follows
authority               the one host that is meant      path        the bytes of the URL
identity, token         the credential that decides     directory   projects and tokens, in Redis
strip                   the headers that may go on      models      the gate of a project's list of models
remembered              what Redis said of them, for an outage that calls are let through
"""
