"""The ledger's fixtures serve what is kept beside it as well."""

from tests.ledger.conftest import clock, ledger, new_ledger, redis

__all__ = ["clock", "ledger", "new_ledger", "redis"]
