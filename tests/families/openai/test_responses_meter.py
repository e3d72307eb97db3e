"""What an answer of the Responses API is charged for, however it comes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from tollhouse.denial import Denial
from tollhouse.families.asked import Dialect, Request
from tollhouse.families.meters import AnswerHead, Meter
from tollhouse.families.openai import OPENAI, routes
from tollhouse.families.units import Charge, Units

EVENTS = AnswerHead(200, (("content-type", "text/event-stream"),))
PLAIN = AnswerHead(200, (("content-type", "application/json"),))
USAGE = {
    "input_tokens": 90,
    "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 10},
    "output_tokens": 40,
    "output_tokens_details": {"reasoning_tokens": 30},
    "total_tokens": 130,
}
UNITS = Units(input=90, output=40, cached=20, cache_write=10, reasoning=30, requests=1)
CHARGE = Charge("gpt-5-2025-08-07", UNITS, "default")
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed"}


def asked(**more: Any) -> Any:
    body = json.dumps({"model": "gpt-5", "input": "hi", **more}).encode()
    return OPENAI.read(Request(routes.RESPONSES, "", (), body), Dialect("on_request"))


def meter(head: AnswerHead = EVENTS, **more: Any) -> Meter:
    return OPENAI.meter(asked(stream=head is EVENTS, **more), head)


def response(**more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "error": None,
        "model": "gpt-5-2025-08-07",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": "default",
        "usage": USAGE,
        **more,
    }


def event(kind: str, end: str = "\n", **more: Any) -> bytes:
    data = json.dumps({"type": kind, "sequence_number": 1, **more}, separators=(",", ":"))
    return f"event: {kind}{end}data: {data}{end}{end}".encode()


def delta(text: str, kind: str = "response.output_text.delta", end: str = "\n") -> bytes:
    return event(kind, end, item_id="msg_1", output_index=0, delta=text)


def passed(meter: Meter, data: bytes, size: int = 65_536) -> bytes:
    out = [meter.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return b"".join(out) + meter.flush()


def charges(body: dict[str, Any], **more: Any) -> tuple[Charge, ...]:
    """Of a plain answer."""
    found = meter(PLAIN, **more)
    raw = json.dumps(body).encode()
    assert passed(found, raw) == raw
    return found.finish()


def test_the_answer_is_the_sdks_own_type() -> None:
    """The sample above is one that the SDK takes."""
    assert Response.model_validate(response()).usage is not None


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_each_end_has_the_usage(kind: str) -> None:
    """And says that the answer is over, before the connection does."""
    found = meter()
    found.feed(event("response.created", response=response(usage=None)))
    assert (found.finish(), found.done) == ((), False)
    failed = kind == "response.failed"
    error = {"code": "server_error", "message": "m"} if failed else None
    found.feed(event(kind, response=response(error=error)))
    assert (found.finish(), found.done) == ((CHARGE,), True)
    assert found.error == ("server_error" if failed else "")


def test_null_is_no_count() -> None:
    """Trap 37: of a usage, of its details, of a failed response. An earlier count stays."""
    assert charges(response(usage=None)) == ()
    bare = {"input_tokens": 9, "output_tokens": 4}
    nulls = {**bare, "input_tokens_details": None, "output_tokens_details": None}
    wanted = Units(input=9, output=4, requests=1)
    assert charges(response(usage=nulls))[0].units == wanted
    nested = {**bare, "input_tokens_details": {"cached_tokens": None}}
    assert charges(response(usage=nested))[0].units == wanted
    found = meter()
    found.feed(event("response.completed", response=response()))
    found.feed(event("response.completed", response=response(usage=None)))
    assert found.finish() == (CHARGE,)


def test_a_later_count_replaces_an_earlier_one() -> None:
    """Trap 16: counts are cumulative."""
    found = meter()
    found.feed(event("response.completed", response=response(usage={**USAGE, "input_tokens": 50})))
    found.feed(event("response.completed", response=response()))
    assert found.finish() == (CHARGE,)


def test_usage_behind_the_finish_of_a_completion() -> None:
    """Trap 12: the count comes after the finish reason."""
    request = Request(routes.COMPLETIONS, "", (), b'{"model":"davinci-002","stream":true}')
    asked = OPENAI.read(request, Dialect("on_request"))
    found = OPENAI.meter(asked, EVENTS)
    text = b'data: {"model":"davinci-002","choices":[{"text":"a","finish_reason":"stop"}]}\n\n'
    usage = b'data: {"model":"davinci-002","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    assert found.feed(text + usage) == text
    assert found.finish() == (Charge("davinci-002", Units(input=1, output=1, requests=1)),)


def test_an_echo_is_no_output() -> None:
    """The prompt that an answer repeats is taken off what was seen."""
    body = b'{"model":"davinci-002","stream":true,"echo":true,"n":2,"prompt":"%s"}' % (b"x" * 400)
    asked = OPENAI.read(Request(routes.COMPLETIONS, "", (), body), Dialect("on_request"))
    found = OPENAI.meter(asked, EVENTS)
    found.feed(b'data: {"choices":[{"text":"%s"}]}\n\n' % (b"x" * 400))
    assert found.output_seen == 0
    found.feed(b'data: {"choices":[{"text":"%s"}]}\n\n' % (b"x" * 440))
    assert found.output_seen == 10


def test_a_stream_that_is_cut_keeps_what_it_counted() -> None:
    """Traps 20 and 21: the usage counts as soon as its event is whole, and an event may come in any pieces."""
    stream = delta("Hello.") + event("response.completed", response=response())
    for at in range(1, len(stream)):
        found = meter()
        found.feed(stream[:at])
        found.feed(stream[at:])
        # Neither `flush` nor an end of the connection is needed.
        assert (found.finish(), found.done) == ((CHARGE,), True)


def test_text_that_looks_like_a_usage() -> None:
    """Trap 22: events are parsed, and text is not searched."""
    fake = '"usage":{"input_tokens":1,"output_tokens":1}} \n\nevent: response.completed\ndata: {}'
    found = meter()
    stream = delta(fake) + event("response.output_text.done", text=fake)
    assert passed(found, stream) == stream
    assert (found.finish(), found.done, found.error) == ((), False, "")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_forms_of_events(end: str) -> None:
    """Trap 22: a byte order mark, comments, ends of lines, and data of several lines."""
    pretty = json.dumps({"type": "response.completed", "response": response()}, indent=1)
    lines = end.join(f"data: {line}" for line in pretty.splitlines())
    stream = (
        b"\xef\xbb\xbf"
        + delta("Hello.", end=end)
        + f": still here{end}{end}event: response.completed{end}{lines}{end}{end}".encode()
    )
    for size in (1, 7, 1_000_000):
        found = meter()
        assert passed(found, stream, size) == stream
        assert (found.finish(), found.done) == ((CHARGE,), True)
        assert found.output_seen == 40


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("behind", [b"", b"data: [DONE]\n\n"])
def test_an_event_of_ten_megabytes(end: str, behind: bytes) -> None:
    """Is passed on, and its usage is read, without being kept: before its large member, and behind it."""
    image = {"id": "ig_1", "type": "image_generation_call", "result": "A" * 10_000_000}
    for usage_first in (True, False):
        whole = response(output=[image])
        if usage_first:
            whole = {"usage": whole.pop("usage"), **whole}
        stream = event("response.completed", end, response=whole) + behind
        found = meter()
        assert passed(found, stream) == stream
        assert (found.finish(), found.done) == ((CHARGE,), True)


def test_comments_without_end_are_read_in_no_time() -> None:
    """A long event of many lines is no work for the pattern that looks into it."""
    found = meter()
    stream = b": x\r\n" * 400_000 + b"\r\n" + event("response.completed", response=response())
    assert passed(found, stream) == stream
    assert found.finish() == (CHARGE,)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"code": "rate_limit_exceeded", "message": "m", "param": None}, "rate_limit_exceeded"),
        ({"code": None, "message": "m"}, "error"),
        ({"error": {"type": "server_error", "code": None, "message": "m"}}, "server_error"),
    ],
)
def test_an_error_event(data: dict[str, Any], error: str) -> None:
    """Trap 23: under a status of 200, with its fields at the root or in an object."""
    found = meter()
    found.feed(delta("Hello."))
    found.feed(event("error", **data))
    assert (found.error, found.finish()) == (error, ())


def test_an_error_of_the_chat_form() -> None:
    """As proxies in between write it."""
    found = meter()
    found.feed(b'data: {"error":{"message":"m","type":"t","param":null,"code":null}}\n\n')
    assert found.error == "t"


def test_a_failed_response_that_is_plain() -> None:
    """It has its error in itself."""
    found = meter(PLAIN)
    failed = response(status="failed", usage=None, error={"code": "server_error", "message": "m"})
    passed(found, json.dumps(failed).encode())
    assert (found.error, found.finish()) == ("server_error", ())


@pytest.mark.parametrize(
    "kind",
    [
        *("response.output_text.delta", "response.refusal.delta"),
        *("response.reasoning_text.delta", "response.reasoning_summary_text.delta"),
        *("response.function_call_arguments.delta", "response.mcp_call_arguments.delta"),
        *("response.custom_tool_call_input.delta", "response.code_interpreter_call_code.delta"),
    ],
)
def test_text_is_seen(kind: str) -> None:
    """Of every kind: at least a token for each piece, else by its length. The repetition at its end counts no more."""
    found = meter()
    found.feed(delta("x" * 40, kind))
    assert found.output_seen == 10
    for _ in range(20):
        found.feed(delta("a", kind))
    assert found.output_seen == 21
    found.feed(event(kind.replace(".delta", ".done"), text="x" * 400, arguments="x" * 400))
    assert found.output_seen == 21


@given(
    pieces=st.lists(st.binary(max_size=40) | st.sampled_from([b"event: response.completed\n"])),
    size=st.integers(1, 9),
)
def test_garbage_passes(pieces: list[bytes], size: int) -> None:
    """Unchanged."""
    stream = b"\n\n".join(pieces)
    assert passed(meter(), stream, size) == stream


ITEMS: list[dict[str, Any]] = [
    {**SEARCH, "action": {"type": "search", "query": "a"}},
    {**SEARCH, "id": "ws_2", "action": {"type": "open_page", "url": "u"}},
    {**SEARCH, "id": "ws_3", "action": {"type": "find_in_page", "url": "u", "pattern": "p"}},
    {"id": "fs_1", "type": "file_search_call"},
    {"id": "fs_2", "type": "file_search_call"},
    {"id": "ci_1", "type": "code_interpreter_call", "container_id": "c1"},
    {"id": "ci_2", "type": "code_interpreter_call", "container_id": "c1"},
    {
        "id": "sh_1",
        "type": "shell_call",
        "environment": {"type": "container_reference", "container_id": "c2"},
    },
    {"id": "sh_2", "type": "shell_call", "environment": {"type": "local"}},
    {"id": "fc_1", "type": "function_call", "name": "f"},
    {"id": "mcp_1", "type": "mcp_call", "name": "f"},
]
TOOLS: Any = [
    {"type": "web_search"},
    {"type": "file_search"},
    {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}},
]
USED = (
    Charge("web_search", Units(requests=1)),
    Charge("file_search", Units(requests=2)),
    Charge("code_interpreter", Units(requests=8)),
)


def test_uses_of_tools_by_their_items() -> None:
    """Pages that are opened are free; a container counts once, a larger one by its GB; the client's own tools never."""
    assert charges(response(output=ITEMS), tools=TOOLS) == (CHARGE, *USED)
    preview = [{"type": "web_search_preview"}]
    assert charges(response(output=ITEMS[:1]), tools=preview)[1:] == (
        Charge("web_search_preview", Units(requests=1)),
    )


def test_items_of_a_stream_count_once() -> None:
    """Each comes when it is done, and again in the end."""
    found = meter(tools=TOOLS)
    for index, item in enumerate(ITEMS):
        found.feed(event("response.output_item.added", output_index=index, item=item))
        found.feed(event("response.output_item.done", output_index=index, item=item))
    assert found.finish() == ()
    found.feed(event("response.completed", response=response(output=ITEMS)))
    assert found.finish() == (CHARGE, *USED)


@pytest.mark.parametrize("indexed", [False, True])
def test_calls_without_ids_are_counted_once(indexed: bool) -> None:
    """Each by itself, and not again at the end, wherever it stands there."""
    search = {"type": "web_search_call", "status": "completed"}
    found = meter()
    for index in (3, 7):
        more = {"output_index": index} if indexed else {}
        found.feed(event("response.output_item.done", item=search, **more))
    found.feed(event("response.completed", response=response(output=[search, search])))
    assert found.finish() == (CHARGE, Charge("web_search", Units(requests=2)))
    assert charges(response(output=[search, search])) == found.finish()


def test_tools_of_an_event_that_is_too_long_to_keep() -> None:
    """Were counted as they came."""
    found = meter(tools=TOOLS)
    for index, item in enumerate(ITEMS):
        found.feed(event("response.output_item.done", output_index=index, item=item))
    image = {"id": "ig_1", "type": "image_generation_call", "result": "A" * 2_000_000}
    passed(found, event("response.completed", response=response(output=[*ITEMS, image])))
    assert found.finish() == (CHARGE, *USED)


@pytest.mark.parametrize("size", [7_001, 65_536, 10_000_000])
def test_tools_of_a_plain_answer_that_is_too_long_to_keep(size: int) -> None:
    """Are counted one by one, as those of a short answer."""
    image = {"id": "ig_1", "type": "image_generation_call", "result": "A" * 2_000_000}
    raw = json.dumps(response(output=[*ITEMS, image]), indent=2).encode()
    found = meter(PLAIN, tools=TOOLS)
    assert passed(found, raw, size) == raw
    assert found.finish() == (CHARGE, *USED)


def test_what_the_answer_says_of_tools_goes_first() -> None:
    """Trap 30: the usage leaves the searches and the image model's tokens out."""
    images = {
        "input_tokens": 50,
        "input_tokens_details": {"image_tokens": 30, "text_tokens": 20},
        "output_tokens": 1_056,
        "total_tokens": 1_106,
    }
    used = {"image_gen": images, "web_search": {"num_requests": 5}}
    tools: Any = [{"type": "web_search"}, {"type": "image_generation", "model": "gpt-image-2"}]
    assert charges(response(output=ITEMS[:3], tool_usage=used), tools=tools) == (
        CHARGE,
        Charge("web_search", Units(requests=5)),
        Charge(
            "gpt-image-2",
            Units(input=50, output=1_056, input_image=30, output_image=1_056, requests=1),
        ),
    )
    none = {"image_gen": {"input_tokens": 0, "output_tokens": 0}, "web_search": {"num_requests": 0}}
    assert charges(response(output=ITEMS[:3], tool_usage=none), tools=tools) == (CHARGE,)


def test_who_writes_an_svg() -> None:
    """A second model, which the item names."""
    used = {
        "model": "gpt-5.4",
        "input_tokens": 7,
        "output_tokens": 9,
        "reasoning_tokens": 3,
        "total_tokens": 16,
    }
    item = {"id": "ig_1", "type": "image_generation_call", "result": "A", "svg_usage": used}
    tools: Any = [{"type": "image_generation", "output_format": "svg", "svg": {"model": "gpt-5.4"}}]
    assert charges(response(output=[item]), tools=tools)[1:] == (
        Charge("gpt-5.4", Units(input=7, output=9, reasoning=3, requests=1)),
    )


def test_the_tier_that_was_served() -> None:
    """Trap 8: not the one that was asked for."""
    [charge] = charges(response(service_tier="priority"), service_tier="fast")
    assert charge.tier == "priority"


def test_what_is_kept_afterwards() -> None:
    """The response, unless the request wants none."""
    for more, created in (({}, ("resp_1",)), ({"store": False}, ())):
        found = meter(**more)
        found.feed(event("response.created", response=response(usage=None)))
        assert found.created == created


def test_items_are_kept_with_their_response() -> None:
    """Each as soon as it has begun, and those of the end that never came by themselves."""
    for more, made in (({}, ("resp_1", "rs_1", "msg_1", "ig_1")), ({"store": False}, ())):
        found = meter(**more)
        found.feed(event("response.created", response=response(usage=None)))
        for item in ({"id": "rs_1", "type": "reasoning"}, {"id": "msg_1", "type": "message"}):
            found.feed(event("response.output_item.added", item=item))
        assert found.created == made[:3]
        items = [{"id": "msg_1", "type": "message"}, {"id": "ig_1"}, {"id": 7}, 7]
        found.feed(event("response.completed", response=response(output=items)))
        assert found.created == made
    whole = meter(PLAIN)
    whole.feed(json.dumps(response(output=[{"id": f"i{n}"} for n in range(2_000)])).encode())
    whole.flush()
    assert len(whole.created) == 1_000


def test_containers_and_their_files_are_kept() -> None:
    """Also of a response that is not: a container lives on by itself. No other citation names a new file."""
    found = meter(store=False)
    shell = {"type": "shell_call", "id": "sh_1", "environment": {"container_id": "cntr_2"}}
    said = [
        {"type": "container_file_citation", "container_id": "cntr_1", "file_id": "cfile_1"},
        {"type": "file_citation", "file_id": "file-1"},
        {"type": "file_path", "file_id": "file-2"},
    ]
    message = {"id": "msg_1", "type": "message", "content": [{"annotations": said}, 7]}
    for item in (shell, message):
        found.feed(event("response.output_item.done", item=item))
    assert found.created == ("cntr_2", "cfile_1", "cntr_1", "file-2")


@pytest.mark.parametrize("size", [1_000, 65_536, 10_000_000])
def test_items_of_a_plain_answer_that_is_too_long_to_keep(size: int) -> None:
    """An opened page is no search, what only looks like a call is none, and each item is kept. So is one that is long itself."""
    opened = [
        {"id": f"ws_{kind}", "type": "web_search_call", "action": {"type": kind}}
        for kind in ("search", "open_page", "find_in_page")
    ]
    drawn = {"id": "ig_1", "type": "image_generation_call", "result": "A" * 300_000}
    call = {"action": {"type": "open_page"}, "type": "web_search_call", "output": [{"id": "x"}]}
    function = {"type": "function", "name": "f", "parameters": {"a": [call] * 9}}
    answer = response(
        output=[drawn, *opened], tools=[function], metadata={"output": "[", "id": "y"}
    )
    found = meter(PLAIN)
    data = json.dumps(answer).encode()
    for at in range(0, len(data), size):
        found.feed(data[at : at + size])
    found.flush()
    assert found.finish() == (CHARGE, Charge("web_search", Units(requests=1)))
    items = ("ig_1", "ws_search", "ws_open_page", "ws_find_in_page")
    assert set(found.created) == {"resp_1", *items}


def test_a_background_stream_is_not_told_of_the_budget() -> None:
    """No event of ours could end what the provider goes on with."""
    found = meter(background=True)
    found.feed(event("response.created", response=response(usage=None)))
    assert found.boundary is None
    found.feed(event("response.completed", response=response()))
    assert (found.finish(), found.done) == ((CHARGE,), True)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("budget_exceeded", "insufficient_quota"),
        ("concurrency_limited", "rate_limit_exceeded"),
        ("internal", "server_error"),
    ],
)
def test_how_a_stream_is_told_that_it_ends(code: str, told: str) -> None:
    """A response fails, in the SDK's own type; a chat gets the error that it always got."""
    denial = Denial(code)
    head, data = OPENAI.last_event(denial, "call_7", asked(stream=True)).split(b"\n", 1)
    assert head == b"event: response.failed"
    failed = json.loads(data.removeprefix(b"data: "))
    error = failed["response"]["error"]
    assert (failed["type"], error["code"]) == ("response.failed", told)
    assert error["message"].endswith(f"[tollhouse: {code}, call call_7]")
    # The SDK's type does not list the code that Codex knows, and its client takes any.
    sdk = {**failed["response"], "error": {**error, "code": "server_error"}}
    assert Response.model_validate(sdk).status == "failed"
    chat = Request(routes.CHAT, "", (), b'{"model":"gpt-4o","messages":[]}')
    read = OPENAI.read(chat, Dialect("on_request"))
    assert OPENAI.last_event(denial, "call_7", read) == OPENAI.error_event(denial, "call_7")
