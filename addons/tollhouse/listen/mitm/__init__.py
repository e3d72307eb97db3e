"""The only folder that knows mitmproxy's proxy core: from a client's bytes to an `Exchange`, and back.

hooks     what our addons are asked
layer     the layers of a connection, in order
head      strict parsing of request heads
message   mitmproxy's messages, made at less cost
http1     HTTP/1 with the client
http2     HTTP/2 with the client
wire      the way back to the client
handler   one connection: its hooks and its end

mitmproxy brings TLS, HTTP/1 and HTTP/2; everything behind them is replaced. Its `HttpLayer` and `HttpStream` are not used:
they keep bodies, put the whole message through hooks whose exceptions are logged and ignored (the request is then sent), and
open one upstream connection a client connection. Here a request becomes an `Exchange` for one coroutine, and there is
no way upstream at all: nothing in this folder can dial.

mitmproxy's internals that this leans on, to be looked at when its upper bound in pyproject.toml is raised: `Layer` appends
itself to ``context.layers`` when it is constructed, so none is built that is not used; `Http1Server` and `Http2Server`
yield `ReceiveHttp`; a hook has exactly one field; `ConnectionHandler.server_event` is replaced whole; `h11`'s ReceiveBuffer
and `BufferedH2Connection.stream_buffers` are read.
"""

from tollhouse.listen.mitm.handler import GateMaster, TollhouseConnectionHandler
from tollhouse.listen.mitm.hooks import Bounds, ConnectRequest, Handshake
from tollhouse.listen.mitm.layer import raw_refusal

__all__ = [
    "Bounds",
    "ConnectRequest",
    "GateMaster",
    "Handshake",
    "TollhouseConnectionHandler",
    "raw_refusal",
]
