"""What keeps a gateway from starting, and can be mended by the person who started it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tollhouse.control.refusal import OperationRefused
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.ledger.ledger import LedgerUnavailable
from tollhouse.operators.loading import AddonError
from tollhouse.prices.source import PriceSourceError


class GatewayError(Exception):
    """The gateway can't start. The text says what is wrong and what to do."""


CANNOT_START = (
    GatewayError,
    AddonError,
    OSError,
    ValueError,
    CredentialUnavailable,
    LedgerUnavailable,
    OperationRefused,
    PriceSourceError,
)
"""What a person can mend; anything else is a fault of ours."""


@contextlib.contextmanager
def told(what: str, todo: str) -> Iterator[None]:
    """Turns an `OSError` into a `GatewayError` that says what is wrong and what to do."""
    try:
        yield
    except OSError as e:
        raise GatewayError(f"{what} ({e.strerror or e}); {todo}") from None
