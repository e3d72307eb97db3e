"""The way out of a cleared call, and the way back of its answer. It speaks to the provider.

relay       what all deliveries share
delivery    one call out and back: keys, attempts, the answer, the outcome
ending      how a delivery ended
outgoing    the request as it will be sent, but for the key
attempts    the retry loop
retry       the rules of the loop
retry_budget  how many retries the calls to a provider may make, and each tenant's of them
breaker     pauses of failing providers
window      counts of the last seconds, for the breaker
latest      a bounded table, of breakers and of policies
upstream    one attempt over the shared connections
upstream_tls  what is trusted, and the certificates that we show
eyeballs    the first of a name's addresses that takes a connection
proxy       the way through a corporate proxy
proxied     the same for connections that are no provider's
tcp_info    what the kernel knows of a connection
pool        the connections, which aiohttp dials and keeps
http_connection  one of them, under our rules
http_client  a request and its answer on one of them
sign        the key is put on here
resolve     names to addresses
dial        a connection to a host that is no provider's
guard       which addresses may be dialled
transport   a parsed answer under our rules, and what aiohttp's exceptions mean
answer      what a provider answered, and its two failures
inflating   the body of an answer that came compressed
socket_handshake  the handshake of a WebSocket
upstreamed  the provider's side of a WebSocket session
verdict     what an error says of the key, by its family's table
answering   the answer as pieces, for `journey`
stages      what each piece passes: redaction, meter, budget
"""
