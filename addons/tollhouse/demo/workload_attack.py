"""A workload that tries to get out without paying, and prints each refusal as JSON, a line each.

First with a provider key of its own and no gate token; then with a good token (``argv[1]`` is the proxy's URL with it)
and, inside the tunnel to the provider, the Host of another server.
"""

import json
import os
import sys

from openai import APIStatusError, OpenAI


def attempt(name: str, client: OpenAI) -> None:
    try:
        client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "Let me through."}]
        )
        outcome: dict[str, object] = {"event": "answer", "attack": name}
    except APIStatusError as error:
        outcome = {
            "event": "refusal",
            "attack": name,
            "status": error.status_code,
            "code": error.code,
        }
        outcome["message"] = error.message
    print(json.dumps(outcome), flush=True)


attempt("own_key", OpenAI(api_key="sk-a-key-that-the-workload-brought"))
os.environ["HTTPS_PROXY"] = sys.argv[1]
attempt("other_host", OpenAI(api_key="not-a-key", default_headers={"Host": "api.evil.example"}))
