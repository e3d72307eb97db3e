from pathlib import Path

import pytest

from tollhouse.prices.file import PricedProvider, load


@pytest.fixture(scope="session")
def price_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory of this process."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def priced(price_directory: Path) -> dict[str, PricedProvider]:
    """The table of the installed genai-prices, written and read as the gateway does it."""
    return load(price_directory)
