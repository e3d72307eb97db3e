"""The canonical record, and the file that it is written to."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.admit.head import head
from tollhouse.accounts.token import mint
from tollhouse.book import FIELDS, Book, record_of, swept_record
from tollhouse.call import Amount, Attempt, Call, Identity, Project, Usage
from tollhouse.denial import Denial
from tollhouse.ledger.limits import format_usd
from tollhouse.providers.openai import OPENAI

# DESIGN.md, "One line per call".
CONTRACT = """
ts call_id trace_id tenant project identity provider host method path model model_served stream status decision reason
attempts breaker key_version ttft_ms duration_ms overhead_ms tokens cost_usd held_usd charged_by client_ip
"""


def a_call(**fields: Any) -> Call:
    call = Call(head=head(), id="call_1", started=100.0, timestamp=1_700_000_000.5)
    for name, value in fields.items():
        setattr(call, name, value)
    return call


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (20, "0.00000002"),
        (72_500, "0.0000725"),
        (1_500_000_000, "1.5"),
        (10**9, "1"),
        (10**10, "10"),
        (10**18 + 1, "1000000000.000000001"),
        (-1, "-0.000000001"),
        (-1_500_000_000, "-1.5"),
    ],
)
def test_usd(nano: int, text: str) -> None:
    """Exact, without an exponent and without trailing zeros."""
    assert format_usd(nano) == text


@given(st.integers(-(10**24), 10**24))
def test_usd_is_exact(nano: int) -> None:
    """A decimal string of which the same integer can be made again."""
    from decimal import Decimal, localcontext

    with localcontext(prec=60):
        assert Decimal(format_usd(nano)) * 10**9 == nano


def test_it_has_the_contracts_fields() -> None:
    """Every name that others rely on, in a line of whatever kind; `FIELDS` lists them all in order."""
    record = record_of(a_call(), 100.0)
    assert set(CONTRACT.split()) <= set(record)
    assert list(record) == FIELDS.split()
    assert set(swept_record({})) == set(record)


def test_a_call_that_was_let_through_without_redis() -> None:
    """One field more, in its own line and in that of a sweep, and in no other."""
    record = record_of(a_call(unsafe_fail_open=True), 100.0)
    assert list(record) == [*FIELDS.split(), "unsafe_fail_open"]
    assert record["unsafe_fail_open"] is True
    swept = swept_record({"call_id": "call_1", "unsafe_fail_open": "true"})
    assert set(swept) == set(record)
    assert swept["unsafe_fail_open"] is True


def test_a_call_that_was_answered() -> None:
    """The values of a whole call."""
    call = a_call(
        provider=OPENAI,
        host="api.openai.com",
        path="/v1/chat/completions",
        query="secret=1",
        identity=Identity("tok_1", "acme", ("proj",)),
        project=Project("proj", "acme"),
        status=200,
        cleared=True,
        first_byte=100.25,
        waited_s=0.4,
        attempts=[Attempt("503", 10.04), Attempt("200", 20.06)],
        usage=Usage(input=9, output=5, cached=3),
        estimate=Amount(nano_usd=100),
        charged=Amount(nano_usd=72_500),
        charged_by="usage",
        body=b"the body",
    )
    record = record_of(call, 100.5)
    assert record["ts"] == "2023-11-14T22:13:20.500Z"
    assert (record["tenant"], record["project"], record["identity"]) == ("acme", "proj", "tok_1")
    assert (record["status"], record["decision"], record["reason"]) == (200, "allow", "")
    assert (record["ttft_ms"], record["duration_ms"], record["overhead_ms"]) == (250.0, 500.0, 100.0)
    assert record["attempts"] == [{"outcome": "503", "ms": 10.0}, {"outcome": "200", "ms": 20.1}]
    assert record["tokens"] == {"input": 9, "output": 5, "cached": 3}
    assert (record["cost_usd"], record["held_usd"], record["charged_by"]) == ("0.0000725", "0.0000001", "usage")
    assert "secret" not in str(record)
    assert "the body" not in str(record)


@pytest.mark.parametrize(
    ("fields", "decision", "reason"),
    [
        ({}, "allow", ""),
        ({"denial": Denial("budget_exceeded")}, "deny", "budget_exceeded"),
        ({"denial": Denial("upstream_tls"), "cleared": True}, "fail", "upstream_tls"),
        ({"ended": "client_gone"}, "allow", "client_gone"),
        ({"denial": Denial("internal"), "ended": "cut"}, "deny", "internal"),
    ],
)
def test_decision_and_reason(fields: dict[str, Any], decision: str, reason: str) -> None:
    """deny before the last gate, fail behind it; a denial's code before how it ended."""
    record = record_of(a_call(**fields), 100.0)
    assert (record["decision"], record["reason"]) == (decision, reason)


def test_the_tenant_of_a_call_without_a_project() -> None:
    """A token whose project was refused still says whose it is."""
    record = record_of(a_call(identity=Identity("tok_1", "acme", ())), 100.0)
    assert (record["tenant"], record["project"]) == ("acme", "")


@pytest.mark.parametrize("name", ["trace_id", "host", "path", "model", "model_served"])
def test_no_token_in_what_a_client_chooses(name: str) -> None:
    """A token that was put where it does not belong is not written down."""
    token = mint(bytes(32))
    record = record_of(a_call(**{name: f"a {token} b"}), 100.0)
    assert record[name] == "a gate_[removed] b"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_record_is_one_line(tmp_path: Path) -> None:
    """Whatever is in it: line ends and what is not ASCII are escaped."""
    book = Book(tmp_path / "lines")
    book.write({"a": "b\nc\u2028d\r", "é": "\ud800"})
    book.write({"a": 1})
    book.close()
    assert (tmp_path / "lines").read_bytes().count(b"\n") == 2
    assert lines(tmp_path / "lines") == [{"a": "b\nc\u2028d\r", "é": "\ud800"}, {"a": 1}]


def test_it_appends_and_keeps_others_out(tmp_path: Path) -> None:
    """A file that is there is written on; a new one is not for everybody."""
    path = tmp_path / "lines"
    for number in range(2):
        book = Book(path)
        book.write({"n": number})
        book.close()
    assert [line["n"] for line in lines(path)] == [0, 1]
    assert path.stat().st_mode & 0o007 == 0


def test_it_follows_a_moved_file(tmp_path: Path) -> None:
    """After logrotate: the old lines stay in the old file, the next goes into a new one."""
    path, moved = tmp_path / "lines", tmp_path / "lines.1"
    book = Book(path)
    book.write({"n": 1})
    path.rename(moved)
    book.reopen()
    book.write({"n": 2})
    book.close()
    assert ([line["n"] for line in lines(moved)], [line["n"] for line in lines(path)]) == ([1], [2])


def test_a_file_that_cannot_be_opened_again(tmp_path: Path) -> None:
    """The old one is written on: lines are not lost because a directory is gone."""
    folder = tmp_path / "logs"
    folder.mkdir()
    book = Book(folder / "lines")
    folder.rename(tmp_path / "moved")
    book.reopen()
    book.write({"n": 1})
    book.close()
    assert lines(tmp_path / "moved" / "lines") == [{"n": 1}]


def test_writing_never_raises(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk, or a book that was closed, loses the line and says whose."""
    book = Book(Path("/dev/full"))
    book.write({"call_id": "call_1"})
    book.close()
    book.write({"call_id": "call_2"})
    assert "call_1" in caplog.text
    assert "call_2" in caplog.text


def test_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    """`-` in the configuration: file descriptor 1, which stays open."""
    book = Book(None)
    book.write({"a": 1})
    book.close()
    os.fstat(1)
    assert capfd.readouterr().out == '{"a":1}\n'


def test_a_line_that_was_cut_off_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    """The disk is full in the middle of a line: it stays torn, and the next begins on a line of its own."""
    path = tmp_path / "lines"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    book = Book(path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (15, before[1]))
        book.write({"n": 1})
        book.write({"n": 2, "lost": "x" * 100})
        book.write({"n": 3})
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        book.write({"n": 4})
        book.write({"n": 5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
        book.close()
    assert path.read_text().splitlines() == ['{"n":1}', '{"n":2,', '{"n":4}', '{"n":5}']


def test_a_line_that_comes_too_late_goes_into_nobody_elses_file(tmp_path: Path) -> None:
    """The descriptor of a closed book may be another file's by then."""
    book = Book(tmp_path / "lines")
    book.close()
    with (tmp_path / "other").open("w") as other:
        book.write({"n": 1})
        assert os.fstat(other.fileno()).st_size == 0


def test_lines_are_counted(tmp_path: Path) -> None:
    """By provider, status and reason, for whoever asks; also when the line could not be written."""
    book = Book(tmp_path / "calls.jsonl")
    for _ in range(2):
        book.write({"provider": "openai", "status": 200, "reason": "", "project": "proj_123"})
    book.close()
    book.write({"provider": "", "status": 403, "reason": "host_not_allowed"})
    assert book.counts == {("openai", 200, ""): 2, ("", 403, "host_not_allowed"): 1}
