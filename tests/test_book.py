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

from tests.support.calls import HOST, IDENTITY, PROJECT, admitted, arrival, covered, head, requested
from tests.support.clock import Clock
from tests.support.values import replace
from tollhouse.accounts.token import mint
from tollhouse.book import FIELDS, Book, Concluded, record_of, swept_record
from tollhouse.call import Addressed, Aimed, Amount, Billed, Covered, Identified, Stage
from tollhouse.denial import Denial
from tollhouse.families.units import Charge, Units
from tollhouse.ledger.limits import format_usd
from tollhouse.outcome import Attempt, End, Outcome
from tollhouse.providers.openai import OPENAI

# DESIGN.md, "One line per call".
CONTRACT = """
ts call_id trace_id session tenant project identity provider host method path model model_served stream status decision reason
attempts breaker key_version ttft_ms duration_ms overhead_ms tokens cost_usd held_usd charged_by client_ip
"""


BILLED = Charge("gpt-4o-2024", Units(input=9, output=5, cached=3, requests=1))


def record(stage: Stage | None = None, **more: Any) -> dict[str, Any]:
    """The line of a call that ended 0.5 s after it began."""
    return record_of(Concluded(stage or arrival(), **more), 100.5)


def stages() -> list[Stage]:
    """A call at each stage, in order."""
    arrived = arrival()
    addressed = Addressed(arrived, OPENAI, HOST, "/v1/chat/completions?key=secret")
    aimed = Aimed(addressed, "/v1/chat/completions", "a=secret", ("secret",))
    identified = Identified(
        aimed, (("authorization", "secret"),), IDENTITY, "user", remembered=False
    )
    asked = requested(b'{"model":"gpt-4o","messages":[{"role":"user","content":"secret"}]}')
    return [
        arrived,
        addressed,
        aimed,
        identified,
        Billed(identified, PROJECT, remembered=False),
        admitted(query="a=secret"),
        asked,
        covered(asked, Amount(nano_usd=100)),
    ]


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
    line = record()
    assert set(CONTRACT.split()) <= set(line)
    assert list(line) == FIELDS.split()
    assert set(swept_record({})) == set(line)


@pytest.mark.parametrize("stage", stages(), ids=lambda stage: type(stage).__name__)
def test_every_stage_has_a_line(stage: Stage) -> None:
    """A call may end at any of them: it says what was found out by then, and nothing that is secret."""
    line = record(stage)
    held = ["held_for"] if isinstance(stage, Covered) else []
    assert list(line) == [*FIELDS.split(), *held]
    number = [type(each) for each in stages()].index(type(stage))
    assert (line["provider"], line["host"]) == (("openai", HOST) if number >= 1 else ("", ""))
    assert line["path"] == ("/v1/chat/completions" if number >= 2 else "")
    assert (line["identity"], line["tenant"]) == (("tok_1", "acme") if number >= 3 else ("", ""))
    assert line["project"] == ("proj_1" if number >= 4 else "")
    assert line["model"] == ("gpt-4o" if number >= 6 else "")
    assert line["held_usd"] == ("0.0000001" if number >= 7 else "0")
    assert (line["method"], line["client_ip"], line["listener"]) == ("POST", "10.0.0.9", "proxy")
    assert "secret" not in str(line)


@pytest.mark.parametrize("how", ["remembered", "unheld"])
def test_a_call_that_was_let_through_without_redis(how: str) -> None:
    """One field more, in its own line and in that of a sweep, and in no other."""
    asked = requested(given=admitted(remembered=how == "remembered"))
    stage = covered(asked)
    stage.hold.unheld = how == "unheld"  # type: ignore[misc]
    line = record(stage)
    assert list(line) == [*FIELDS.split(), "unsafe_fail_open"]
    assert line["unsafe_fail_open"] is True
    swept = swept_record({"call_id": "call_1", "unsafe_fail_open": "true"})
    assert set(swept) == set(line)
    assert swept["unsafe_fail_open"] is True


def test_a_call_that_was_answered() -> None:
    """The values of a whole call."""
    line = record(
        stages()[-1],
        status=200,
        outcome=Outcome(
            End.WHOLE,
            status=200,
            charges=(BILLED,),
            attempts=(Attempt("503", 10.04), Attempt("200", 20.06)),
            attempts_unknown=1,
            breaker="closed",
            key_version="abcd@3",
            first_byte=100.25,
        ),
        charged=Amount(nano_usd=72_500),
        charged_by="usage",
        waited_s=0.4,
    )
    assert line["ts"] == "2027-01-15T08:00:00.250Z"
    assert (line["tenant"], line["project"], line["identity"]) == ("acme", "proj_1", "tok_1")
    assert (line["status"], line["decision"], line["reason"]) == (200, "allow", "")
    assert (line["model"], line["model_served"]) == ("gpt-4o", "gpt-4o-2024")
    assert (line["ttft_ms"], line["duration_ms"], line["overhead_ms"]) == (250.0, 500.0, 100.0)
    assert line["attempts"] == [{"outcome": "503", "ms": 10.0}, {"outcome": "200", "ms": 20.1}]
    assert (line["attempts_unknown"], line["breaker"], line["key_version"]) == (
        1,
        "closed",
        "abcd@3",
    )
    assert line["tokens"] == {"input": 9, "output": 5, "cached": 3}
    assert (line["cost_usd"], line["held_usd"], line["charged_by"]) == (
        "0.0000725",
        "0.0000001",
        "usage",
    )
    assert "units" not in line
    assert "charges" not in line


def test_a_bill_of_several_items() -> None:
    """The tokens and the other units are those of all; each item is there with its model."""
    token = mint(bytes(32))
    sound = Charge(f"whisper {token}", Units(input=1, milliseconds=1_500, requests=1))
    line = record(outcome=Outcome(End.WHOLE, charges=(BILLED, sound)))
    assert line["tokens"] == {"input": 10, "output": 5, "cached": 3}
    assert line["units"] == {"seconds": 1.5}
    assert line["charges"] == [
        {"model": "gpt-4o-2024", "input": 9, "output": 5, "cached": 3},
        {"model": "whisper gate_[removed]", "input": 1, "output": 0, "seconds": 1.5},
    ]


def test_the_tables_of_its_prices_are_named() -> None:
    """One field more, in the lines of calls that money was worked out for, and in no other."""
    priced = Amount(nano_usd=5, price="genai-prices 0.2.3, built-in 2026-11")
    line = record(stages()[-1], outcome=Outcome(End.WHOLE, charges=(BILLED,)), charged=priced)
    assert line["price"] == "genai-prices 0.2.3, built-in 2026-11"
    assert list(line) == [*FIELDS.split(), "price", "held_for"]
    assert "price" not in record(charged=Amount(nano_usd=5))


NEVER_LEFT = Outcome(End.NEVER_LEFT)


@pytest.mark.parametrize(
    ("fields", "decision", "reason"),
    [
        ({}, "allow", ""),
        ({"denial": Denial("budget_exceeded")}, "deny", "budget_exceeded"),
        ({"denial": Denial("upstream_tls"), "outcome": NEVER_LEFT}, "fail", "upstream_tls"),
        ({"outcome": Outcome(End.ERROR, status=503)}, "allow", ""),
        ({"outcome": Outcome(End.ERROR, error="server_error")}, "fail", "upstream_error"),
        (
            {"outcome": Outcome(End.FAILED, error="x"), "denial": Denial("internal")},
            "fail",
            "internal",
        ),
        ({"ended": "client_gone"}, "allow", "client_gone"),
        ({"ended": "client_gone", "outcome": NEVER_LEFT}, "allow", "client_gone"),
        ({"denial": Denial("internal"), "ended": "cut"}, "deny", "internal"),
    ],
)
def test_decision_and_reason(fields: dict[str, Any], decision: str, reason: str) -> None:
    """deny before the last gate, fail behind it; a denial's code before the provider's error, and that before how it ended."""
    line = record(**fields)
    assert (line["decision"], line["reason"]) == (decision, reason)


# What a client or a provider chooses.

CHOSEN = ["trace_id", "session", "host", "path", "model", "model_served"]


def chosen(name: str, text: str) -> dict[str, Any]:
    """The line of a call in which ``text`` stands where a client or a provider chose it."""
    given = admitted(path="/v1/chat/completions")
    more: dict[str, Any] = {}
    match name:
        case "trace_id":
            given = replace(given, arrival=arrival(trace_id=text))
        case "session":
            given = replace(given, arrival=arrival()._replace(session=text))
        case "host" | "path":
            given = replace(given, **{name: text})
        case "model_served":
            more["outcome"] = Outcome(End.WHOLE, charges=(Charge(text, Units()),))
    return record(requested(given=given, model=text if name == "model" else "gpt-4o"), **more)


@pytest.mark.parametrize("name", CHOSEN)
def test_no_token_in_what_a_client_chooses(name: str) -> None:
    """A token that was put where it does not belong is not written down."""
    assert chosen(name, f"a {mint(bytes(32))} b")[name] == "a gate_[removed] b"


def test_the_host_of_a_tunnel_that_was_refused() -> None:
    """As its client named it: it is nobody's."""
    line = record(host=f"evil.test {mint(bytes(32))}", denial=Denial("host_not_allowed"))
    assert line["host"] == "evil.test gate_[removed]"


@pytest.mark.parametrize(
    "text",
    ["x" * 60_000, "é" * 30_000, "\n\u2028" * 15_000],
    ids=["ascii", "two bytes", "ends of lines"],
)
@pytest.mark.parametrize("name", CHOSEN)
def test_no_field_is_long(tmp_path: Path, name: str, text: str) -> None:
    """60 KB of it: 512 bytes are written, in one line."""
    line = chosen(name, text)
    shown = line[name]
    assert shown.endswith("...")
    assert text.startswith(shown[:-3])
    assert 508 < len(shown.encode()) <= 512
    book = Book(tmp_path / "lines")
    book.write(line)
    book.close()
    written = (tmp_path / "lines").read_bytes()
    assert written.count(b"\n") == 1
    assert len(written) < 5_000
    assert lines(tmp_path / "lines") == [line]


def test_no_text_is_long_wherever_it_stands() -> None:
    """One rule for all fields: those of a bill and of the attempts, the method, and the line of a sweep."""
    long = "m" * 60_000
    charges = (Charge(long, Units()), Charge(long, Units()))
    outcome = Outcome(End.WHOLE, charges=charges, attempts=(Attempt(long, 1.0),), key_version=long)
    line = record(arrival(head(long)), outcome=outcome)
    cut = "m" * 509 + "..."
    assert [item["model"] for item in line["charges"]] == [cut, cut]
    assert (line["attempts"][0]["outcome"], line["key_version"], line["method"]) == (cut, cut, cut)
    assert swept_record({"model": long})["model"] == cut


def test_a_token_at_the_cut() -> None:
    """It is taken out before the text is cut: no part of it is left."""
    token = mint(bytes(32))
    assert "gate_[removed]" not in chosen("model", "x" * 500 + token)["model"]
    assert token[5:8] not in chosen("model", "x" * 500 + token)["model"]


# The file.


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
    """For whoever asks; also when the line could not be written."""
    book = Book(tmp_path / "calls.jsonl")
    for _ in range(2):
        book.write({"provider": "openai", "status": 200, "reason": "", "project": "proj_123"})
    book.close()
    book.write({"provider": "", "status": 403, "reason": "host_not_allowed"})
    assert book.sums.calls == {
        ("openai", "", "2xx", ""): 2,
        ("", "", "4xx", "host_not_allowed"): 1,
    }


def test_who_is_told_of_lines(tmp_path: Path) -> None:
    """Each line once it is written, and its call where there is one."""
    told: list[tuple[object, Concluded | None]] = []
    book = Book(tmp_path / "calls.jsonl")
    book.on_line = lambda record, call: told.append((record["call_id"], call))
    call = Concluded(arrival())
    record = book.record(call)
    entry = book.begin(record, call)
    assert not told
    book.end(entry)
    book.write({"call_id": "later"})
    book.close()
    assert told == [(record["call_id"], call), ("later", None)]


def test_its_clock(tmp_path: Path) -> None:
    """Durations end when the line is made."""
    book = Book(tmp_path / "lines", Clock(101.5))
    line = book.record(Concluded(arrival()))
    book.close()
    assert (line["duration_ms"], line["overhead_ms"]) == (1500.0, 1500.0)
