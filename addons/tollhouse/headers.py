"""A message's headers, and the names of those that several rooms treat alike. Those of credentials are data of the providers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

Headers = Sequence[tuple[str, str]]
"""Names in lower case, in order, duplicates kept."""
CONNECTION_SPECIFIC: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
)
"""Headers that HTTP/2 does not have, RFC 9113 8.2.2."""
HOP_BY_HOP: Final = CONNECTION_SPECIFIC | {"te", "trailer", "proxy-authenticate"}
"""Headers that end at this hop, RFC 9110 7.6.1. Headers that ``Connection`` names end here as
well."""
THIS_MESSAGE: Final = frozenset({"host", "content-length", "expect", "accept-encoding"})
"""Headers that describe a request to this hop. The request to the provider has its own."""
AWS_SIGNATURE: Final = frozenset({"x-amz-date", "x-amz-security-token", "x-amz-content-sha256"})
"""The headers of a SigV4 signature beside ``authorization``. Only the signer writes them."""
