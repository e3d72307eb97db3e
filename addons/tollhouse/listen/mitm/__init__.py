"""The only folder that knows mitmproxy's proxy core: from a client's bytes to an `Exchange`, and back.

beyond    plain bytes of a client's connection to the layer, and back
hooks     what our addons are asked
layer     the layer of a client's HTTP
head      request heads as mitmproxy's messages
message   mitmproxy's messages, made at less cost
http1     HTTP/1 with the client
http2     HTTP/2 with the client
wire      the way back to the client
handler   one connection: its hooks and its end

mitmproxy brings HTTP/2, and HTTP/1 where the configuration asks for it; everything behind them is
replaced. Its `HttpLayer` and `HttpStream` are not used:
they keep bodies, put the whole message through hooks whose exceptions are logged and ignored (the request is then sent), and
open one upstream connection a client connection. Here a request becomes an `Exchange` for one coroutine, and there is
no way upstream at all: nothing in this folder can dial.

mitmproxy's internals that this leans on, to be looked at when its upper bound in pyproject.toml is raised: `Layer` appends
itself to ``context.layers`` when it is constructed, so none is built that is not used; `Http1Server` and `Http2Server`
yield `ReceiveHttp`; a hook has exactly one field; `ConnectionHandler.server_event` is replaced whole; `h11`'s ReceiveBuffer
and `BufferedH2Connection.stream_buffers` are read.
"""

from tollhouse.listen.mitm.beyond import Beyond
from tollhouse.listen.mitm.handler import GateMaster, TollhouseConnectionHandler

__all__ = ["Beyond", "GateMaster", "TollhouseConnectionHandler"]
