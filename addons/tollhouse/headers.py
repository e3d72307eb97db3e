"""Names of headers that several rooms treat alike, in lower case. Those of credentials are data of the providers."""

from __future__ import annotations

from typing import Final

CONNECTION_SPECIFIC: Final = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})
"""What HTTP/2 has no place for, RFC 9113 8.2.2."""
HOP_BY_HOP: Final = CONNECTION_SPECIFIC | {"te", "trailer", "proxy-authenticate"}
"""RFC 9110 7.6.1: they end at this hop, as does what ``Connection`` names."""
THIS_MESSAGE: Final = frozenset({"host", "content-length", "expect", "accept-encoding"})
"""What describes a request to this hop; the next request says its own."""
AWS_SIGNATURE: Final = frozenset({"x-amz-date", "x-amz-security-token", "x-amz-content-sha256"})
"""What a SigV4 signature consists of beside ``authorization``; whoever signs says them."""
