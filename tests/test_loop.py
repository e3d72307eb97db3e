"""What is said when something fails on the event loop."""

from __future__ import annotations

import asyncio

import pytest

from tollhouse.loop import tell_of_failure


@pytest.mark.parametrize(
    "message",
    ["Fatal error on SSL protocol", "Fatal error on transport", "Error occurred during shutdown"],
)
async def test_a_connection_that_was_given_up_is_one_line(
    caplog: pytest.LogCaptureFixture, message: str
) -> None:
    """What uvloop says of its closed handle has no traceback; any other failure keeps its own."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(tell_of_failure)
    closed = RuntimeError(
        "unable to perform operation on <TCPTransport closed=True reading=False 0x1>; the handler is closed"
    )
    loop.call_exception_handler({"message": message, "exception": closed})
    [record] = caplog.records
    assert (record.name, record.levelname, record.exc_info) == (
        "tollhouse.loop",
        "WARNING",
        None,
    )
    assert record.getMessage().endswith(f"and is closed: {message}")
    caplog.clear()
    loop.call_exception_handler({"message": message, "exception": RuntimeError("a fault of ours")})
    [record] = caplog.records
    assert (record.name, record.levelname) == ("asyncio", "ERROR")
    assert record.exc_info is not None
