"""Runs with the Python of the environment that has TensorZero's wheel, and nothing of ours: the gateway, until it is ended.

``python tensorzero_gateway.py CONFIG VALKEY_URL`` prints the gateway's base URL. The wheel has the gateway's HTTP server in its
native module. `patch_openai_client` starts it for an OpenAI client; what that function calls takes the URL of Valkey too.
"""

import signal
import sys

from tensorzero import _start_http_gateway  # type: ignore[import-not-found]

gateway = _start_http_gateway(
    config_file=sys.argv[1],
    clickhouse_url=None,
    postgres_url=None,
    valkey_url=sys.argv[2],
    async_setup=False,
)
print("base URL:", gateway.base_url, flush=True)
signal.pause()
