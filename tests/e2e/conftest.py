"""What the tests through a running gateway share."""

from tests.support.attack import attacked, attacked_gateway

__all__ = ["attacked", "attacked_gateway"]
