"""The one addon of the baseline: sends each request to the provider of the bench and streams the answer."""

import os

from mitmproxy import http

PORT = int(os.environ["BENCH_PROVIDER_PORT"])


def request(flow: http.HTTPFlow) -> None:
    flow.request.host = "127.0.0.1"
    flow.request.port = PORT


def responseheaders(flow: http.HTTPFlow) -> None:
    if flow.response is not None:
        flow.response.stream = True
