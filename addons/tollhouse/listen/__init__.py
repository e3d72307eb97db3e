"""Speaks to the client: sockets, tunnels, HTTP. What it gives the road is an `Exchange`.

exchange   a request and its answer, whatever the protocol is
tunnel     judges CONNECT and TLS handshakes
sockets    the sockets that workloads connect to
mitm/      the only folder that knows mitmproxy's proxy core
"""
