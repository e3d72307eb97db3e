"""Calls of which Redis can't say any more whether they were charged."""

from __future__ import annotations

import logging

from tollhouse.call import Amount

log = logging.getLogger(__name__)


def tell_forgotten(call_id: str, charged: Amount, cost_usd: str) -> None:
    """Says that a call which would cost ``charged`` is not charged: the ledger's answer to its settle was ``forgotten``."""
    if charged.nano_usd or charged.tokens:
        log.error(
            "call %s is not charged now: it ended about a day ago or earlier, and Redis, which forgets ended calls "
            "after 24 hours, can't say whether it was charged then. Its cost was %s USD; if the stream of its "
            "tenant's calls has no record of it, count it by hand",
            call_id,
            cost_usd,
        )
