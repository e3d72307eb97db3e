"""A workload: one streamed answer of Gemini, by Python's standard library alone.

As `workload_message`, it knows nothing of a gateway and prints what it sent and got.
"""

import json
import urllib.request

DOCUMENT = {
    "contents": [{"role": "user", "parts": [{"text": "Who pays for Gemini?"}]}],
    "generationConfig": {"maxOutputTokens": 30},
}
HEADERS = {"content-type": "application/json", "x-goog-api-key": "not-a-key"}
URL = (
    "https://generativelanguage.googleapis.com/v1beta/models/"
    "gemini-2.5-flash:streamGenerateContent?alt=sse"
)


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


body = json.dumps(DOCUMENT)
request = urllib.request.Request(URL, body.encode(), HEADERS, method="POST")
tell("request", url=request.full_url, body=body)
text = ""
usage: dict[str, int] = {}
with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
    for line in answer:
        if line.startswith(b"data: "):
            told = json.loads(line.removeprefix(b"data: "))
            for candidate in told.get("candidates", ()):
                text += "".join(part.get("text", "") for part in candidate["content"]["parts"])
            usage = told.get("usageMetadata", usage)
    tell("answer", call_id=answer.headers["x-tollhouse-call-id"], text=text, usage=usage)
