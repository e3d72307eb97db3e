"""Masks e-mail addresses in all texts of a request before anything else reads it."""

from __future__ import annotations

import json
import re
from typing import Any

from mitmproxy import http

ADDRESS = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63}")


class MaskEmail:
    def request(self, flow: http.HTTPFlow) -> None:
        if "json" not in flow.request.headers.get("content-type", ""):
            return
        # What is no JSON raises here, and the call is refused: it could not be masked.
        asked = json.loads(flow.request.content or b"null")
        masked = _masked(asked)
        if masked != asked:
            flow.request.content = json.dumps(masked).encode()


def _masked(value: Any) -> Any:
    match value:
        case str():
            return ADDRESS.sub("[e-mail]", value)
        case list():
            return [_masked(one) for one in value]
        case dict():
            return {name: _masked(one) for name, one in value.items()}
        case _:
            return value
