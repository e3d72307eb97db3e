import pytest
from tests.dispatch.provider import FakeResolver
from tests.support.values import replace

from tollhouse.dispatch.resolve import AddressRefused, GuardedResolver
from tollhouse.providers import Catalog
from tollhouse.providers.openai import OPENAI

HOST = "api.openai.com"


def resolver(names: dict[str, list[list[str]]], **changes: object) -> GuardedResolver:
    return GuardedResolver(Catalog((replace(OPENAI, **changes),)), FakeResolver(names))  # type: ignore[arg-type]


async def test_a_public_answer_is_given_as_it_came() -> None:
    """All addresses of a public answer are given, with the port that was asked for."""
    found = await resolver({HOST: [["8.8.8.8", "8.8.4.4"]]}).resolve(HOST, 443)
    assert [(one["host"], one["port"]) for one in found] == [("8.8.8.8", 443), ("8.8.4.4", 443)]


async def test_one_private_address_refuses_the_whole_answer() -> None:
    """A mixed answer is refused, and the refusal names the address and the rule."""
    with pytest.raises(AddressRefused) as caught:
        await resolver({HOST: [["8.8.8.8", "10.0.0.1"]]}).resolve(HOST, 443)
    assert caught.value.why == "api.openai.com leads to 10.0.0.1, a private address."


async def test_rebinding_does_not_change_the_judged_answer() -> None:
    """Each look-up is judged for itself: the second answer, private, is refused though the first was public."""
    guarded = resolver({HOST: [["8.8.8.8"], ["127.0.0.1"]]})
    assert (await guarded.resolve(HOST, 443))[0]["host"] == "8.8.8.8"
    with pytest.raises(AddressRefused, match="loopback"):
        await guarded.resolve(HOST, 443)


async def test_connect_to_replaces_name_and_port() -> None:
    """connect_to is dialled instead of what DNS says, and a name in it is looked up."""
    found = await resolver({}, connect_to=("9.9.9.9", 8443)).resolve(HOST, 443)
    assert [(one["hostname"], one["host"], one["port"]) for one in found] == [
        (HOST, "9.9.9.9", 8443)
    ]
    found = await resolver(
        {"egress.example": [["9.9.9.8"]]}, connect_to=("egress.example", 1443)
    ).resolve(HOST, 443)
    assert [(one["host"], one["port"]) for one in found] == [("9.9.9.8", 1443)]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7", "::1"])
async def test_connect_to_an_inner_address_needs_allow_private(address: str) -> None:
    """connect_to is under the guard as well."""
    with pytest.raises(AddressRefused):
        await resolver({}, connect_to=(address, 443)).resolve(HOST, 443)
    found = await resolver({}, connect_to=(address, 443), allow_private=True).resolve(HOST, 443)
    assert found[0]["host"] == address


async def test_a_name_of_no_provider() -> None:
    """A name that no provider serves is never looked up."""
    guarded = resolver({"evil.example": [["8.8.8.8"]]})
    with pytest.raises(AddressRefused, match=r"evil\.example"):
        await guarded.resolve("evil.example", 443)


async def test_an_empty_answer_is_an_error() -> None:
    """No address at all is an OSError, which the connector understands."""
    with pytest.raises(OSError, match="no address"):
        await resolver({HOST: [[]]}).resolve(HOST, 443)
