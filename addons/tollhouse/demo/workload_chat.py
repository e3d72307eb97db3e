"""A workload: one chat completion, then a streamed one, by the OpenAI SDK as it is.

It knows nothing of a gateway: HTTPS_PROXY and SSL_CERT_FILE are its whole environment. What it sent and got is printed
as JSON, a line each, for the demo to show. ``argv[1]`` is the project it names.
"""

import json
import sys

from openai import OpenAI


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


client = OpenAI(api_key="not-a-key")

answer = client.chat.completions.with_raw_response.create(
    model="gpt-4o",
    messages=[{"role": "user", "content": "Who pays at the tollhouse?"}],
    max_completion_tokens=40,
    extra_headers={"X-Coreason-Project-ID": sys.argv[1], "X-Coreason-Trace-ID": "demo-plain"},
)
request = answer.http_request
headers = [[name.decode(), value.decode()] for name, value in request.headers.raw]
tell("request", url=str(request.url), headers=headers, body=request.content.decode())
completion = answer.parse()
tell(
    "answer",
    call_id=answer.headers.get("x-tollhouse-call-id"),
    text=completion.choices[0].message.content,
)

stream = client.chat.completions.create(
    model="gpt-4o",
    messages=[{"role": "user", "content": "And who pays for a stream?"}],
    max_completion_tokens=40,
    stream=True,
    extra_headers={"X-Coreason-Project-ID": sys.argv[1], "X-Coreason-Trace-ID": "demo-stream"},
)
tell("stream", body=stream.response.request.content.decode())
text = ""
for chunk in stream:
    choice = chunk.choices[0] if chunk.choices else None
    text += (choice.delta.content or "") if choice else ""
    tell(
        "chunk",
        usage=chunk.usage is not None,
        empty=choice is None,
        last=bool(choice and choice.finish_reason),
    )
tell("answer", call_id=stream.response.headers.get("x-tollhouse-call-id"), text=text)
