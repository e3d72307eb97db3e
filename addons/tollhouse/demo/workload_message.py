"""A workload: one streamed message of Claude, by Python's standard library alone.

It knows nothing of a gateway: HTTPS_PROXY and SSL_CERT_FILE are its whole environment. What it sent and got is printed
as JSON, a line each, for the demo to show.
"""

import json
import urllib.request

DOCUMENT = {
    "model": "claude-sonnet-5",
    "max_tokens": 30,
    "messages": [{"role": "user", "content": "Who pays for Claude?"}],
    "stream": True,
}
HEADERS = {
    "content-type": "application/json",
    "anthropic-version": "2023-06-01",
    "x-api-key": "not-a-key",
}


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


body = json.dumps(DOCUMENT)
request = urllib.request.Request(
    "https://api.anthropic.com/v1/messages", body.encode(), HEADERS, method="POST"
)
tell("request", url=request.full_url, body=body)
text = ""
usage: dict[str, int] = {}
with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
    for line in answer:
        if line.startswith(b"data: "):
            told = json.loads(line.removeprefix(b"data: "))
            text += told.get("delta", {}).get("text", "")
            usage |= told.get("message", told).get("usage", {})
    tell("answer", call_id=answer.headers["x-tollhouse-call-id"], text=text, usage=usage)
