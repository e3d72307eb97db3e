"""For how long calls have been refused for one reason."""

from tests.support.clock import Clock
from tollhouse.lasting import Lasting


def test_it_counts_from_the_first_refusal_of_its_kind() -> None:
    clock = Clock()
    lasting = Lasting(clock)
    assert not lasting.any
    assert lasting.refused("openai", "proj_1", "ledger_unavailable") == 0.0
    clock.advance(2.0)
    assert lasting.refused("openai", "proj_1", "ledger_unavailable") == 2.0
    for kind in (
        ("openai", "proj_1", "internal"),
        ("openai", "proj_2", "ledger_unavailable"),
        ("anthropic", "proj_1", "ledger_unavailable"),
    ):
        assert lasting.refused(*kind) == 0.0


def test_an_answer_ends_it_for_calls_like_it() -> None:
    """For those that came no further than the provider or the listener as well, and for no other project."""
    clock = Clock()
    lasting = Lasting(clock)
    kinds = [("openai", "proj_1"), ("openai", ""), ("", ""), ("openai", "proj_2")]
    for kind in kinds:
        lasting.refused(*kind, "ledger_unavailable")
    clock.advance(9.0)
    lasting.answered("openai", "proj_1")
    assert [lasting.refused(*kind, "ledger_unavailable") for kind in kinds] == [0.0, 0.0, 0.0, 9.0]


def test_one_that_comes_a_long_time_later_begins_anew() -> None:
    clock = Clock()
    lasting = Lasting(clock)
    lasting.refused("openai", "", "ledger_unavailable")
    clock.advance(61.0)
    assert lasting.refused("openai", "", "ledger_unavailable") == 0.0


def test_a_project_that_is_not_known_this_time_is_one_of_all() -> None:
    """The token was remembered at the first refusal, and not at the second."""
    clock = Clock()
    lasting = Lasting(clock)
    lasting.refused("openai", "proj_1", "ledger_unavailable")
    clock.advance(3.0)
    assert lasting.refused("openai", "", "ledger_unavailable") == 3.0
    assert lasting.refused("openai", "proj_2", "ledger_unavailable") == 0.0
