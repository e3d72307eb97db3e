"""A lowered cap in the bytes of a body: what changes, and nothing else."""

from __future__ import annotations

import pytest

from tollhouse.families.formats.lowered import lower_cap


@pytest.mark.parametrize(
    ("body", "lowered"),
    [
        (b'{"max_tokens":9,"a":1}', b'{"max_tokens":3,"a":1}'),
        (b'{"a":{"max_tokens":9}, "max_tokens" : 9}', b'{"a":{"max_tokens":9}, "max_tokens" : 3}'),
        (b'{"max_tokens":2}', b'{"max_tokens":2}'),
        (b'{"max_tokens":null}', b'{"max_tokens":3}'),
        (b'{"max_tokens":0}', b'{"max_tokens":3}'),
        (b'{"a":1}', b'{"max_tokens":3,"a":1}'),
        (b" { } ", b' {"max_tokens":3 } '),
    ],
)
def test_a_cap_of_the_body(body: bytes, lowered: bytes) -> None:
    """One that is no higher stays; null and 0 are no cap."""
    assert lower_cap(body, 3, "max_tokens") == lowered


@pytest.mark.parametrize(
    ("body", "lowered"),
    [
        (b'{"x":{"max_tokens":9}}', b'{"x":{"max_tokens":3}}'),
        (b'{"max_tokens":9,"x":{}}', b'{"max_tokens":9,"x":{"max_tokens":3}}'),
        (b'{"x":{"a":1}}', b'{"x":{"max_tokens":3,"a":1}}'),
        (b'{"x":null,"a":1}', b'{"x":{"max_tokens":3},"a":1}'),
        (b'{"a":1}', b'{"x":{"max_tokens":3},"a":1}'),
        (b"{}", b'{"x":{"max_tokens":3}}'),
    ],
)
def test_a_cap_of_an_object_in_the_body(body: bytes, lowered: bytes) -> None:
    """The object is made where there is none."""
    assert lower_cap(body, 3, "max_tokens", inside="x") == lowered


@pytest.mark.parametrize(
    ("body", "lowered"),
    [
        (b'{"a":9,"b":8}', b'{"a":3,"b":3}'),
        (b'{"b":9,"a":2}', b'{"b":3,"a":2}'),
        (b'{"b":null,"a":9}', b'{"b":null,"a":3}'),
        (b'{"b":null,"a":null}', b'{"b":3,"a":null}'),
        (b'{"c":9}', b'{"a":3,"c":9}'),
    ],
)
def test_a_cap_of_several_names(body: bytes, lowered: bytes) -> None:
    """Each that is there is lowered; one of them is enough."""
    assert lower_cap(body, 3, "a", "b") == lowered
