"""Speaks to the client: sockets, tunnels, HTTP. What it gives the road is an `Exchange`.

sockets            the sockets that workloads connect to
client_connection  one connection: through TLS and tunnels to the HTTP that it speaks
shared             what it needs of others
half_closed        a connection whose client has ended its direction
tls                TLS with a client
http1              HTTP/1 with a client
http1_connection   the connection as HTTP/1 uses it, and the heads of its requests
answer_head        the heads of its answers
request_head       its heads, parsed strictly
repeated_head      the head that a connection sends again with each call
chunks             its bodies
doors              what is asked of the gateway: tunnels, handshakes, owners of exchanges
tunnel             judges CONNECT and TLS handshakes
client_hello       the first message of a tunnel that is passed on
passed_tunnel      such a tunnel: bytes both ways, counted
handshake          a WebSocket's handshake, and our answer to it
exchange           a request and its answer, whatever the protocol is
interruption       what ends the work of its owner
mitm/              the only folder that knows mitmproxy's proxy core: HTTP/2
"""
