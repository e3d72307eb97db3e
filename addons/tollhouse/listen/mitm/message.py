"""mitmproxy's messages without the check of types that it makes of each at run time.

The check takes about 40 us a message (``MessageData.__post_init__``). mypy has checked the same
types here.
"""

from __future__ import annotations

import time

from mitmproxy import http


class _RequestData(http.RequestData):
    def __post_init__(self) -> None:
        """Checks nothing."""


class _ResponseData(http.ResponseData):
    def __post_init__(self) -> None:
        """Checks nothing."""


class ReceivedRequest(http.Request):
    """A request's head that arrives now."""

    def __init__(
        self,
        method: bytes,
        scheme: bytes,
        authority: bytes,
        path: bytes,
        version: bytes,
        headers: http.Headers,
    ) -> None:
        self.data = _RequestData(
            version, headers, None, None, time.time(), None, "", 0, method, scheme, authority, path
        )


class SentResponse(http.Response):
    """The head of an answer that is sent now."""

    def __init__(self, version: bytes, status: int, phrase: bytes, headers: http.Headers) -> None:
        now = time.time()
        self.data = _ResponseData(version, headers, None, None, now, now, status, phrase)
