"""Says in a header of the request which project sends it, and in one of the answer that it was said."""

from __future__ import annotations

import logging
from collections.abc import Collection

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader


class AuditHeader:
    def load(self, loader: Loader) -> None:
        loader.add_option("audit_header", str, "X-Audit", "The header that names the project.")

    def configure(self, updated: Collection[str]) -> None:
        if "audit_header" in updated and not ctx.options.audit_header.strip():
            raise exceptions.OptionsError("audit_header needs a name")

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        project, call = flow.metadata["tollhouse.project"], flow.metadata["tollhouse.call_id"]
        flow.request.headers[ctx.options.audit_header] = f"{project} {call}"

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        # Without a hook `response` a stream stays a stream.
        if flow.response is not None:
            flow.response.headers[ctx.options.audit_header] = "said"

    def error(self, flow: http.HTTPFlow) -> None:
        logging.warning("audited call %s: %s", flow.metadata["tollhouse.call_id"], flow.error)
