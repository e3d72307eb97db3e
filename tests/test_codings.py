"""Codings that are undone, and what is no such coding."""

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.codings import KNOWN, PIECE, BadCoding, Decoder, TooLong, inflated


def _raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


CODED: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", _raw_deflate),
    ("br", brotli.compress),
    ("zstd", zstandard.ZstdCompressor().compress),
)
each = pytest.mark.parametrize(("coding", "compress"), CODED)


def test_each_known_coding_is_tried() -> None:
    assert {coding for coding, _ in CODED} == KNOWN


def _in_pieces(data: bytes, coding: str, size: int) -> tuple[bytes, int, bool]:
    """What comes out, the largest piece, and whether it is complete."""
    decoder = Decoder(coding)
    out = b""
    largest = 0
    for at in range(0, len(data), size):
        decoder.give(data[at : at + size])
        while piece := decoder.take():
            out += piece
            largest = max(largest, len(piece))
    return out, largest, decoder.complete


@each
@given(data=st.binary(max_size=2_000), size=st.integers(1, 300))
def test_a_body_comes_back_however_it_is_cut(
    coding: str, compress: Callable[[bytes], bytes], data: bytes, size: int
) -> None:
    assert _in_pieces(compress(data), coding, size)[::2] == (data, True)
    assert inflated(compress(data), coding, len(data)) == data


@each
def test_a_bomb_comes_out_in_bounded_pieces(
    coding: str, compress: Callable[[bytes], bytes]
) -> None:
    """16 MiB of zeros come in one piece of at most a few thousand bytes."""
    bomb = compress(bytes(16 << 20))
    out, largest, complete = _in_pieces(bomb, coding, len(bomb))
    assert (len(out), complete) == (16 << 20, True)
    assert largest <= PIECE + (2 << 20)
    with pytest.raises(TooLong):
        inflated(bomb, coding, 1 << 20)


@each
def test_what_ends_too_early_is_not_complete(
    coding: str, compress: Callable[[bytes], bytes]
) -> None:
    """Nor is a body with one byte less."""
    whole = compress(b"hello " * 100)
    assert not _in_pieces(whole[:-1], coding, 7)[2]
    with pytest.raises(BadCoding, match="ends too early"):
        inflated(whole[:-1], coding, 1_000)
    assert Decoder(coding).complete


@each
def test_what_is_not_of_the_coding(coding: str, compress: Callable[[bytes], bytes]) -> None:
    """Other bytes, and bytes behind the end."""
    for wrong in (b"\xff" * 40, compress(b"hello") + b"\xff" * 40):
        with pytest.raises(BadCoding):
            inflated(wrong, coding, 1_000)


@pytest.mark.parametrize(
    ("coding", "compress"), [CODED[0], CODED[5]], ids=lambda value: str(value)[:6]
)
def test_several_members(coding: str, compress: Callable[[bytes], bytes]) -> None:
    """A file may be several, one behind the other."""
    assert inflated(compress(b"a" * 50) + compress(b"b"), coding, 100) == b"a" * 50 + b"b"


def test_a_window_that_is_too_large() -> None:
    """A frame that asks for 128 MiB of memory is refused."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    coded = frame.compress(bytes(1 << 20)) + frame.flush()
    with pytest.raises(BadCoding):
        inflated(coded, "zstd", 2 << 20)
