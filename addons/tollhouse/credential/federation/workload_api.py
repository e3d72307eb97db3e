"""JWT-SVIDs of the SPIFFE Workload API: gRPC over a Unix socket, by the library `spiffe`.

https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_API.md. Who asks is told by the kernel; no secret is sent.
"""

from __future__ import annotations

from pathlib import Path

from tollhouse.credential.lease import CredentialUnavailable, StoreAway


def jwt_svid(socket: Path, audience: str, spiffe_id: str, timeout_s: float) -> str:
    """A JWT-SVID for ``audience``, of ``spiffe_id`` or, if that is empty, of the identity that comes first. Blocks. Raises
    `CredentialUnavailable`."""
    try:
        # It takes 18 MB of memory and, on a busy machine, a second. Nobody else pays for that.
        from spiffe import SpiffeId, WorkloadApiClient
        from spiffe.errors import PySpiffeError
    except ImportError:
        missing = True
    else:
        missing = False
    if missing:
        raise CredentialUnavailable(
            "The SPIFFE Workload API needs a library that is not installed: `pip install 'tollhouse[spiffe]'`."
        )
    if not socket.is_socket():
        raise StoreAway(f"There is no socket of a Workload API at {socket}.")
    try:
        with WorkloadApiClient(f"unix:{socket}") as client:
            wanted = SpiffeId(spiffe_id) if spiffe_id else None
            return client.fetch_jwt_svid({audience}, wanted, timeout_s).token
    except PySpiffeError as error:
        code = getattr(getattr(error.__cause__, "code", lambda: None)(), "name", "")
    return _raised(socket, code)


def _raised(socket: Path, code: str) -> str:
    """``code`` is that of gRPC; the server's words are not repeated."""
    match code:
        case "PERMISSION_DENIED":
            raise CredentialUnavailable(
                f"The Workload API at {socket} has no identity for the gateway (PERMISSION_DENIED): make its registration entry."
            )
        case "INVALID_ARGUMENT" | "UNAUTHENTICATED" | "UNIMPLEMENTED":
            raise CredentialUnavailable(f"The Workload API at {socket} refuses ({code}).")
        case "":
            raise CredentialUnavailable(f"What the Workload API at {socket} gives is no JWT-SVID.")
    raise StoreAway(f"The Workload API at {socket} does not answer ({code}).")
