import pytest

from tollhouse.prices.rates import PricedProvider
from tollhouse.prices.source import read


@pytest.fixture(scope="session")
def priced() -> dict[str, PricedProvider]:
    """The table of the installed genai-prices, read as the gateway does it."""
    return read()
