"""`tollhouse check`: the collector of telemetry."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from tollhouse.check.finding import Finding
from tollhouse.config.load import Config
from tollhouse.telemetry.telemetry import MISSING, installed


async def check_collector(config: Config, environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Whether it takes spans: it is sent a request without any."""
    endpoint = config.otel.endpoint
    if endpoint is None:
        return []
    if not await asyncio.to_thread(installed):
        what, _, todo = MISSING.partition("; ")
        return [Finding("error", f"{what}.", "The gateway refuses to start.", f"{todo}.")]
    from tollhouse.telemetry.sdk import try_out

    findings = []
    parts = urlsplit(endpoint)
    near = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme == "http" and not near and environ.get("OTEL_EXPORTER_OTLP_HEADERS"):
        findings.append(
            Finding(
                "warn",
                f"otel.endpoint {endpoint} speaks plain http.",
                "The credential in OTEL_EXPORTER_OTLP_HEADERS crosses the network readable.",
                "Use https://, with OTEL_EXPORTER_OTLP_CERTIFICATE for a private CA.",
            )
        )
    why = await asyncio.to_thread(try_out, endpoint)
    if why:
        findings.append(
            Finding(
                "warn",
                f"The OTLP collector at {endpoint} takes no spans.",
                f"{why}. The gateway runs all the same, and what it would tell is lost.",
                "Start it, or correct [otel] endpoint: the base URL of its receiver for HTTP, port 4318 by custom.",
            )
        )
    else:
        findings.append(Finding("ok", f"The OTLP collector at {endpoint} takes spans."))
    return findings
