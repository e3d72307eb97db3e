"""A workload that goes on calling until it is refused, and prints each answer and the refusal as JSON, a line each."""

import json
import sys

from openai import APIStatusError, OpenAI

client = OpenAI(api_key="not-a-key")
for number in range(int(sys.argv[1])):
    try:
        client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": f"Once more, please: {number}."}],
            max_completion_tokens=40,
        )
        print(json.dumps({"event": "answer"}), flush=True)
    except APIStatusError as error:
        refusal = {
            "event": "refusal",
            "status": error.status_code,
            "code": error.code,
            "message": error.message,
        }
        print(json.dumps(refusal), flush=True)
        break
