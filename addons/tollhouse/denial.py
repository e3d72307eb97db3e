"""Every refusal a person can see: its code, its status, whose fault it is, and its words.

A refusal says what happened, why, and what to do next. The codes are a contract (``x-tollhouse-reason`` and ``reason`` in
the call's line): add to them, never rename one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """Who has to act on a refusal."""

    WORKLOAD = "workload"
    POLICY = "policy"
    BUDGET = "budget"
    PROVIDER = "provider"
    US = "us"


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of the table: ``what`` happened and what ``todo`` about it; the ``why`` comes with the denial."""

    status: int
    fault: Fault
    what: str
    todo: str
    retry: bool = False
    """False says ``x-should-retry: false``: the same request will be refused again."""


_W, _P, _B, _V, _U = Fault.WORKLOAD, Fault.POLICY, Fault.BUDGET, Fault.PROVIDER, Fault.US

REASONS: Final[dict[str, Reason]] = {
    "bad_request": Reason(400, _W, "The request is malformed.", "Correct the request."),
    "identity_missing": Reason(
        401,
        _W,
        "The request shows no identity.",
        "Put the gate token into the proxy's URL (HTTPS_PROXY=http://PROJECT:gate_...@HOST:PORT) or use it as the API key.",
    ),
    "identity_unknown": Reason(
        401,
        _W,
        "The credential is not one that this gateway knows.",
        "Use a token made by `tollhouse token create PROJECT`; a provider's own key is never accepted here.",
    ),
    "identity_expired": Reason(
        401,
        _W,
        "The token has expired.",
        "Ask for a new one (`tollhouse token create PROJECT`).",
    ),
    "identity_revoked": Reason(
        401,
        _W,
        "The token was revoked.",
        "Ask for a new one (`tollhouse token create PROJECT`).",
    ),
    "budget_exceeded": Reason(
        402,
        _B,
        "The budget does not cover this call.",
        "Lower the output cap (max_completion_tokens), or ask for a higher limit or a grant.",
    ),
    "authority_mismatch": Reason(
        421,
        _W,
        "The hosts named by CONNECT, TLS and the request are not the same.",
        "Send the request to the host that the connection was opened for.",
    ),
    "host_not_allowed": Reason(
        403,
        _P,
        "This host is not one of the providers that may be called.",
        "Call a configured provider, or have the host added under [providers] in tollhouse.toml.",
    ),
    "port_not_allowed": Reason(
        403,
        _P,
        "This port is not the provider's.",
        "Use the provider's own port (443 for https URLs).",
    ),
    "path_not_allowed": Reason(
        403,
        _P,
        "This method and path are not open through the gateway.",
        "See docs/open-endpoints.md of Tollhouse; everything else is closed by default.",
    ),
    "endpoint_forbidden": Reason(
        403,
        _P,
        "This endpoint makes a credential or administrates the account.",
        "Have whoever owns the account do it with the provider itself: no setting opens it here.",
    ),
    "plain_http": Reason(
        403,
        _W,
        "The provider was addressed over plain http.",
        "Use the provider's https:// URL, unchanged.",
    ),
    "project_not_allowed": Reason(
        403,
        _P,
        "The token may not charge this project.",
        "Name a project that the token was made for, or ask for a token of that project.",
    ),
    "model_not_allowed": Reason(
        403,
        _P,
        "The project may not use this model.",
        "Use a model of the project's list, or ask for it to be added.",
    ),
    "model_unpriced": Reason(
        403,
        _P,
        "No price is known for this model, and the project's budget is in money.",
        "Give it a price under [prices] in tollhouse.toml, or use a model that has one.",
    ),
    "object_not_yours": Reason(
        403,
        _P,
        "The object may be another tenant's.",
        "Use an object that a call of your tenant made, or ask for a key of your tenant's own.",
    ),
    "addon_refused": Reason(
        403,
        _P,
        "An addon of the gateway's operator refused the call.",
        "Ask whoever runs the gateway what its addons refuse.",
    ),
    "tls_refused": Reason(
        403, _W, "TLS was refused.", "Connect with the provider's host name as SNI."
    ),
    "timeout": Reason(
        408, _W, "The request took too long to arrive.", "Send it again.", retry=True
    ),
    "body_too_large": Reason(413, _W, "The request's body is too large.", "Send less."),
    "unsupported_encoding": Reason(
        415,
        _W,
        "The request's body has a content coding that the gateway cannot read.",
        "Send it as gzip, deflate, br or zstd, or uncompressed.",
    ),
    "upgrade_required": Reason(
        426,
        _W,
        "The gateway passes no WebSocket here.",
        "Send the call over HTTP: its answer may be streamed.",
    ),
    "headers_too_large": Reason(
        431, _W, "The request's headers are too large.", "Send fewer or shorter headers."
    ),
    "rate_limited": Reason(429, _B, "A rate limit is reached.", "Send it again later.", retry=True),
    "concurrency_limited": Reason(
        429,
        _B,
        "As many calls are under way as may be.",
        "Send it again when one has ended.",
        retry=True,
    ),
    "credential_refused": Reason(
        502,
        _U,
        "The provider refused the gateway's key.",
        "The workload can't mend this: tell whoever runs the gateway to renew the key in Vault.",
    ),
    "upstream_unreachable": Reason(
        502, _V, "The provider could not be reached.", "Send it again.", retry=True
    ),
    "upstream_tls": Reason(
        502,
        _V,
        "TLS with the provider could not be set up.",
        "Whoever runs the gateway must look at `tollhouse check` and at ca_file of this provider.",
    ),
    "upstream_address_refused": Reason(
        502,
        _U,
        "The provider's name resolves to an address that may not be dialled.",
        "Set allow_private = true for this provider if it really is inside your network.",
    ),
    "upstream_bad_answer": Reason(
        502, _V, "The provider's answer is not valid HTTP.", "Send it again.", retry=True
    ),
    "upstream_timeout": Reason(
        504, _V, "The provider did not answer in time.", "Send it again.", retry=True
    ),
    "credential_unavailable": Reason(
        503,
        _U,
        "The provider's key could not be read.",
        "Whoever runs the gateway must look at `tollhouse check`: Vault does not answer, refuses, or has no usable key.",
        retry=True,
    ),
    "identity_unavailable": Reason(
        503,
        _U,
        "The keys of the token's issuer could not be read.",
        "Send it again in a moment; whoever runs the gateway must look at `tollhouse check` and at jwks_url of [[identity.jwt]].",
        retry=True,
    ),
    "addon_failed": Reason(
        503,
        _U,
        "An addon of the gateway's operator failed, so the call is refused.",
        "The workload can't mend this: give whoever runs the gateway the call id.",
    ),
    "ledger_unavailable": Reason(
        503,
        _U,
        "The budget ledger cannot be reached, so nothing may leave.",
        "Send it again in a moment.",
        retry=True,
    ),
    "breaker_open": Reason(
        503,
        _V,
        "The provider has been failing, so calls to it are paused.",
        "Send it again after Retry-After.",
        retry=True,
    ),
    "draining": Reason(
        503, _U, "The gateway is starting or stopping.", "Send it again.", retry=True
    ),
    "too_many_connections": Reason(
        503, _U, "The gateway has too many connections open.", "Send it again.", retry=True
    ),
    "upload_spool_full": Reason(
        503,
        _U,
        "The gateway has no room on its disk for this upload.",
        "Send it again in a moment; whoever runs the gateway sets [limits] upload_spool_mb.",
        retry=True,
    ),
    "internal": Reason(
        503,
        _U,
        "Something went wrong in the gateway, so nothing was sent.",
        "Send it again; if it stays, give whoever runs the gateway the call id.",
        retry=True,
    ),
}

_TRIED_ENOUGH: Final = "Send it again later, not at once."
"""Replaces the table's ``todo`` when the provider fails and the SDK is told to stop."""
_LASTS: Final = (
    "It has been so for some seconds: send it again later, and if it stays tell whoever runs the gateway, "
    "who finds the cause at /readyz."
)
"""The same for a fault of ours."""


@dataclass(frozen=True, slots=True)
class Denial:
    """One refusal.

    ``why`` is a sentence about this very call. It may name the caller's own project, limit and
    model. It never has another project's numbers or a secret. ``headers`` are added to the answer
    (``Retry-After``, ``x-tollhouse-resets-at``). ``status_override`` replaces the table's status:
    an identity that is missing before a tunnel is up is 407 and not 401. ``todo_override`` replaces
    the table's ``todo`` where the advice depends on the call.
    """

    code: str
    why: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    status_override: int | None = None
    todo_override: str = ""

    def __post_init__(self) -> None:
        if self.code not in REASONS:
            raise ValueError(
                f"{self.code!r} is not a reason code; the table is in tollhouse/denial.py"
            )

    @property
    def reason(self) -> Reason:
        return REASONS[self.code]

    @property
    def status(self) -> int:
        return self.status_override or self.reason.status

    @property
    def message(self) -> str:
        """What happened, why, what to do: the text that SDKs show."""
        stops = self.reason.retry and ("x-should-retry", "false") in self.headers
        late = {Fault.PROVIDER: _TRIED_ENOUGH, Fault.US: _LASTS} if stops else {}
        todo = late.get(self.reason.fault, self.reason.todo)
        todo = self.todo_override or todo
        return " ".join(part for part in (self.reason.what, self.why, todo) if part)


class Refused(Exception):
    """The one way in which a refusal travels. ``gate`` is the name of the gate that refused. If it
    is empty, the caller of the gate adds it."""

    def __init__(
        self, code: str, why: str = "", headers: tuple[tuple[str, str], ...] = (), *, gate: str = ""
    ) -> None:
        super().__init__(code)
        self.denial = Denial(code, why, headers)
        self.gate = gate

    @classmethod
    def telling(cls, code: str, why: str, todo: str) -> Refused:
        """Of a call whose advice is not the table's."""
        return cls.of(Denial(code, why, todo_override=todo))

    @classmethod
    def of(cls, denial: Denial, gate: str = "") -> Refused:
        refused = cls(denial.code, gate=gate)
        refused.denial = denial
        return refused


def error_headers(denial: Denial, call_id: str) -> list[tuple[str, str]]:
    """The headers of a refusal, without framing: content type, reason, call id, whether to retry."""
    headers = [
        ("content-type", "application/json"),
        ("x-tollhouse-reason", denial.code),
        ("x-tollhouse-call-id", call_id),
    ]
    names = {name.lower() for name, _ in denial.headers}
    if not denial.reason.retry and "x-should-retry" not in names:
        headers.append(("x-should-retry", "false"))
    headers.extend(denial.headers)
    return headers
