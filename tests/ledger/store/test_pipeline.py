"""The bytes of a command are RESP2, whatever its arguments are."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Encoder, PythonRespSerializer

from tollhouse.ledger.store.pipeline import pack

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def as_redis_py_packs(arguments: Sequence[str]) -> bytes:
    """Without the count of the arguments. It divides the first one at blanks, so a word stands before them."""
    serializer = PythonRespSerializer(6000, Encoder("utf-8", "strict", False).encode)
    return b"".join(serializer.pack("GET", *arguments)).partition(b"\r\nGET\r\n")[2]


@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_arguments(arguments: list[str]) -> None:
    """As redis-py packs them."""
    assert pack(arguments) == as_redis_py_packs(arguments)


def test_long_arguments() -> None:
    """Scripts and records are longer than any table."""
    for size in (0, 2047, 2048, 2049, 100_000):
        arguments = ["x" * size, "é" * size, ""]
        assert pack(arguments) == as_redis_py_packs(arguments)
        assert pack(arguments[:1]) == as_redis_py_packs(arguments[:1])
    assert pack([]) == b""
