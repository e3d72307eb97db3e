"""The ledger's fixtures serve the gate that holds as well."""

from tests.ledger.conftest import clock, ledger, new_ledger, redis

__all__ = ["clock", "ledger", "new_ledger", "redis"]
