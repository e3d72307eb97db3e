"""`tollhouse demo`: a call goes out through a real gateway, and everything that is shown of it is checked.

The gateway is a process of its own on free ports, with embedded stores; the workloads are processes with the unchanged
OpenAI SDK, or with none, and two environment variables. Only the provider is played: by the stand-in, in a thread of this process.

Past 400 lines because it tells one story from its beginning to its end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import secrets
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from tollhouse.demo import standin_answers as answers
from tollhouse.demo import standin_anthropic, standin_google
from tollhouse.demo.gateway_config import write_config
from tollhouse.demo.gateway_process import GatewayProcess, GatewayProcessError
from tollhouse.demo.run_workload import Event, WorkloadError, run_workload
from tollhouse.demo.screen import Screen, request_rows
from tollhouse.demo.standin import StandIn
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Behaviour, Steps

PROJECT = "proj_demo"
# Without an end, so that a demo at midnight counts in one window.
LIMIT = "0.003 usd/total"
# USD per million tokens; in the demo's own configuration, so that its arithmetic holds whatever the list says.
PRICE_IN, PRICE_OUT = Decimal("2.50"), Decimal("10")
_CLAUDE_IN, _CLAUDE_OUT = Decimal("2"), Decimal("10")
_GEMINI_IN, _GEMINI_OUT = Decimal("0.5"), Decimal("3")
_MOST_CALLS = 40
_STALLED_S = 20.0


Working = Callable[[str], AbstractContextManager[object]]
"""Shows what the demo does, for as long as it does it. Nothing is printed meanwhile."""


def _in_silence(_what: str) -> AbstractContextManager[object]:
    return contextlib.nullcontext()


@dataclass
class Scene:
    """What the acts share. ``calls`` counts the requests that the workloads have made."""

    screen: Screen
    standin: StandIn
    gateway: GatewayProcess
    directory: Path
    token: str
    working: Working
    calls: int = 0

    @property
    def environ(self) -> dict[str, str]:
        """A workload's whole environment."""
        return {
            "HTTPS_PROXY": self.gateway.proxy_url(PROJECT, self.token),
            "SSL_CERT_FILE": str(self.directory / "state" / "ca.pem"),
        }

    def used(self) -> Decimal:
        return Decimal(self.gateway.budget(PROJECT)[LIMIT]["used"])

    def short(self, text: str) -> str:
        """``text`` with the token and the key cut short: what is printed may be pasted somewhere."""
        for secret in (self.token, self.standin.key):
            text = text.replace(secret, f"{secret[:12]}...")
        return text


def main(keep: bool, standin: StandIn | None = None, working: Working = _in_silence) -> int:
    """Run the demo: 0 if everything shown happened, 1 if not, 2 if the OpenAI SDK is missing.

    ``keep`` leaves gateway and stand-in running until Ctrl-C and prints what to paste into another terminal.
    ``standin`` plays the provider in place of an ordinary one. ``working`` shows what takes its time.
    """
    if importlib.util.find_spec("openai") is None:
        click.echo(
            "tollhouse: the demo calls through the real OpenAI SDK, which is not installed here; "
            'install it by `pip install "tollhouse[demo]"` (or `pip install openai`) and try again',
            err=True,
        )
        return 2
    screen = Screen()
    with (
        _sigterm_as_interrupt(),
        tempfile.TemporaryDirectory(prefix="tollhouse-demo-") as directory,
    ):
        try:
            _play(
                screen,
                Path(directory),
                standin or StandIn(key=f"sk-demo-{secrets.token_urlsafe(32)}"),
                keep,
                working,
            )
        except (GatewayProcessError, WorkloadError, TimeoutError) as error:
            screen.claim("the demo came to its end", False, str(error))
    screen.say()
    if screen.failed:
        screen.say("Not all of this happened:", fg="red", bold=True)
        for text in screen.failed:
            screen.say(f"  {text}")
        return 1
    screen.say("All of this happened.", fg="green", bold=True)
    return 0


def _play(screen: Screen, directory: Path, standin: StandIn, keep: bool, working: Working) -> None:
    """The acts, in order."""
    with standin:
        price = {"input": str(PRICE_IN), "output": str(PRICE_OUT)}
        claude = {"input": str(_CLAUDE_IN), "output": str(_CLAUDE_OUT)}
        gemini = {"input": str(_GEMINI_IN), "output": str(_GEMINI_OUT)}
        config = write_config(
            directory,
            standin,
            {
                **{
                    f'prices."openai/{model}"': price
                    for model in ("gpt-4o", answers.SERVED["gpt-4o"])
                },
                'prices."anthropic/claude-*"': claude,
                'prices."gemini/gemini-*"': gemini,
                **{
                    f"providers.{name}": {
                        "connect_to": standin.address,
                        "allow_private": True,
                        "ca_file": "provider-ca.pem",
                    }
                    for name in ("anthropic", "gemini")
                },
            },
        )
        gateway = GatewayProcess(config)
        with contextlib.ExitStack() as until_the_end:
            with working("the keys are put into the Vault, and the gateway starts"):
                for provider in ("openai", "anthropic", "gemini"):
                    gateway.tollhouse("key", "set", provider, stdin=standin.key)
                until_the_end.enter_context(gateway)
            scene = _open(screen, standin, gateway, directory, working)
            _two_calls(scene)
            _other_providers(scene)
            _empty_the_budget(scene)
            _attack(scene)
            _closing(scene)
            if keep:
                _keep(scene)
            with working("the gateway stops"):
                code = gateway.stop()
        screen.claim("the gateway stopped in good order", code == 0, f"exit code {code}")
        written = gateway.stdout + gateway.stderr
        leaked = [
            name for name, text in (("key", standin.key), ("token", scene.token)) if text in written
        ]
        screen.claim(
            "neither key nor token is in anything it wrote", not leaked, " and ".join(leaked)
        )


def _open(
    screen: Screen,
    standin: StandIn,
    gateway: GatewayProcess,
    directory: Path,
    working: Working,
) -> Scene:
    screen.say("Tollhouse: one road out, shown on this machine alone", bold=True)
    gateway.make_project(PROJECT, LIMIT, tenant="demo")
    token = gateway.make_token(PROJECT)
    scene = Scene(screen, standin, gateway, directory, token, working)
    screen.talk(
        f"gateway    a process of its own, proxy on {gateway.proxy}; embedded Redis and Vault"
    )
    screen.talk(
        f"providers  a stand-in that speaks TLS as OpenAI's, Anthropic's and Google's host on {standin.address}"
    )
    screen.talk(
        f"project    {PROJECT}, limit {LIMIT}; the real key is in the Vault, the workload has a gate token"
    )
    screen.talk("workload   the OpenAI SDK unchanged; its whole environment:")
    for name, value in scene.environ.items():
        screen.say(f"             {name}={scene.short(value)}")
    return scene


def _two_calls(scene: Scene) -> None:
    screen, standin = scene.screen, scene.standin
    before = scene.used()
    steps, stalled = Steps(), threading.Event()
    standin.script(Behaviour(), Behaviour(steps=steps))

    def give_up() -> None:
        stalled.set()
        steps.release_all()

    watchdog = threading.Timer(_STALLED_S, give_up)

    def next_frame(event: Event) -> None:
        """The stand-in writes a frame only when the workload has read the one before."""
        if event["event"] == "chunk":
            steps.release_all() if event["last"] else steps.release()

    steps.release()
    watchdog.start()
    try:
        with scene.working("a workload calls, by the OpenAI SDK"):
            events = run_workload(
                "workload_chat.py", PROJECT, environ=scene.environ, on_event=next_frame
            )
    finally:
        watchdog.cancel()
    scene.calls += 2
    plain, streamed = standin.wait_count(2)
    standin.wait_for(lambda book: all(received.outcome != "open" for received in book))
    request, stream = (
        next(e for e in events if e["event"] == name) for name in ("request", "stream")
    )
    plain_answer, stream_answer = (event for event in events if event["event"] == "answer")

    screen.heading("1. A chat completion: what the workload sent, what the provider received")
    _show_request(scene, request, plain)
    expected = answers.answer_text(json.loads(request["body"]))
    screen.claim(
        f'the SDK got its answer: "{expected}"',
        plain_answer["text"] == expected,
        str(plain_answer["text"]),
    )
    screen.claim("the body arrived byte for byte", plain.body.decode() == request["body"])
    _claim_clean(scene, plain)

    screen.heading("2. The same, streamed")
    chunks = [event for event in events if event["event"] == "chunk"]
    expected = answers.answer_text(json.loads(stream["body"]))
    screen.claim(
        f"each of {len(chunks)} chunks was at the workload before the provider wrote the next",
        len(chunks) > 2 and not stalled.is_set() and streamed.outcome == "answered",
        "a chunk was held back"
        if stalled.is_set()
        else f"{len(chunks)} chunks, {streamed.outcome}",
    )
    screen.claim(
        "and together they are the answer",
        stream_answer["text"] == expected,
        str(stream_answer["text"]),
    )
    asked = streamed.document().get("stream_options")
    seen = any(event["usage"] or event["empty"] for event in chunks)
    screen.claim(
        "the gateway asked the provider for the count, and the workload, which had not asked, saw none of it",
        asked == {"include_usage": True} and "stream_options" not in stream["body"] and not seen,
        f"asked {asked}, the workload saw {'it' if seen else 'nothing'}",
    )
    _claim_clean(scene, streamed)

    screen.heading("3. What it cost")
    lines = {line.get("call_id"): line for line in scene.gateway.wait_lines(scene.calls)}
    total = Decimal(0)
    for answer, received in ((plain_answer, plain), (stream_answer, streamed)):
        line = lines.get(answer["call_id"], {})
        total += _show_line(scene, line, received)
    after = scene.used()
    screen.say(
        f"  budget of {PROJECT}: {_usd(before)} used before, {_usd(after)} after, of {LIMIT}"
    )
    screen.claim(
        f"it fell by exactly {_usd(total)} USD",
        after - before == total,
        f"by {_usd(after - before)}",
    )


def _show_request(scene: Scene, request: Event, received: Received) -> None:
    headers = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in received.headers
    ]
    proxy = scene.environ["HTTPS_PROXY"].removeprefix("http://").partition("@")[0]
    rows = [
        ("CONNECT api.openai.com:443", ""),
        (f"proxy-authorization: Basic base64({scene.short(proxy)})", ""),
        (
            "POST " + request["url"].removeprefix("https://api.openai.com"),
            f"{received.method} {received.target}",
        ),
        *request_rows([(name, value) for name, value in request["headers"]], headers, scene.short),
        (request["body"], received.body.decode("utf-8", "replace")),
    ]
    scene.screen.columns("sent by the workload", "received by the provider", rows)


def _claim_clean(scene: Scene, received: Received) -> None:
    """The provider got the real key, once, and nothing of the workload's or ours."""
    everything = received.everything()
    key = scene.standin.key
    scene.screen.claim(
        "the provider received the real key, once, in its place",
        received.get_all("authorization") == [f"Bearer {key}"]
        and everything.count(key.encode()) == 1,
    )
    found = [
        word
        for word in (
            "gate_",
            "not-a-key",
            "x-coreason",
            "proxy-",
            "cookie",
            "forwarded",
            "via:",
            "tollhouse:",
        )
        if word.encode() in everything.lower()
    ]
    scene.screen.claim(
        "no gate token, no placeholder key, no header of ours", not found, ", ".join(found)
    )


def _show_line(scene: Scene, line: dict[str, Any], received: Received) -> Decimal:
    """Show a call's line, check its cost against the provider's own count, return the cost."""
    scene.screen.say(f"  {json.dumps(line, separators=(',', ':'))}", fg="cyan")
    usage = answers.chat_usage(received.document())
    into, out = usage["prompt_tokens"], usage["completion_tokens"]
    cost: Decimal = (into * PRICE_IN + out * PRICE_OUT) / 1_000_000
    seen = {name: line.get(name) for name in ("status", "project", "charged_by", "cost_usd")}
    holds = (
        seen["status"] == 200
        and seen["project"] == PROJECT
        and seen["charged_by"] == "usage"
        and Decimal(str(seen["cost_usd"] or "NaN")) == cost
    )
    what = f"{into} tokens in at {PRICE_IN} and {out} out at {PRICE_OUT} USD a million are {_usd(cost)} USD"
    scene.screen.claim(what, holds, f"the line says {seen}")
    return cost


def _other_providers(scene: Scene) -> None:
    """Their calls have other headers, another key and other names for their tokens."""
    screen = scene.screen
    screen.heading("4. Other providers: Claude and Gemini, streamed, by programs without an SDK")
    _one_other(scene, "workload_message.py", "x-api-key", (_CLAUDE_IN, _CLAUDE_OUT))
    _one_other(scene, "workload_thought.py", "x-goog-api-key", (_GEMINI_IN, _GEMINI_OUT))


def _one_other(scene: Scene, workload: str, header: str, prices: tuple[Decimal, Decimal]) -> None:
    screen, standin = scene.screen, scene.standin
    count, before = len(standin.snapshot()), scene.used()
    standin.script(Behaviour())
    with scene.working("a workload calls"):
        request, answer = run_workload(workload, environ=scene.environ)
    scene.calls += 1
    received = standin.wait_count(count + 1)[-1]
    document = json.loads(request["body"])
    if header == "x-api-key":
        expected = answers.answer_text(document)
        counted = standin_anthropic.usage(document)
        into, out = counted["input_tokens"], counted["output_tokens"]
    else:
        expected = standin_google.answer_text(document)
        into = standin_google.prompt_tokens(document)
        out = standin_google.answer_tokens(document) + standin_google.THOUGHTS
    screen.claim(
        f'the workload got its answer: "{expected}"',
        answer["text"] == expected,
        str(answer["text"]),
    )
    key, everything = standin.key, received.everything()
    screen.claim(
        f"the provider received its key, once, as {header}",
        received.get_all(header) == [key] and everything.count(key.encode()) == 1,
    )
    cost: Decimal = (into * prices[0] + out * prices[1]) / 1_000_000
    lines = {line.get("call_id"): line for line in scene.gateway.wait_lines(scene.calls)}
    line = lines.get(answer["call_id"], {})
    screen.say(f"  {json.dumps(line, separators=(',', ':'))}", fg="cyan")
    fell = scene.used() - before
    screen.claim(
        f"{into} tokens in at {prices[0]} and {out} out at {prices[1]} USD a million: "
        f"the budget fell by {_usd(cost)} USD",
        fell == cost == Decimal(str(line.get("cost_usd") or "NaN")),
        f"by {_usd(fell)}",
    )


def _empty_the_budget(scene: Scene) -> None:
    screen, standin = scene.screen, scene.standin
    screen.heading("5. The workload calls on until the money is gone")
    count = len(standin.snapshot())
    with scene.working("the workload calls on"):
        events = run_workload("workload_spend.py", str(_MOST_CALLS), environ=scene.environ)
    scene.calls += len(events)
    passed = sum(event["event"] == "answer" for event in events)
    last = events[-1]
    if last["event"] == "refusal":
        screen.say(f"  {passed} more calls were answered; then the SDK raised:")
        screen.say(f"  {last['status']} {last['code']}: {last['message']}", fg="yellow")
    refused = last["event"] == "refusal" and (last["status"], last["code"]) == (
        402,
        "budget_exceeded",
    )
    screen.claim("the next call was refused with 402 budget_exceeded", refused, str(last))
    received = len(standin.snapshot()) - count
    screen.claim(
        f"the provider received {passed} calls, not the refused one",
        received == passed,
        f"{received}",
    )
    lines = scene.gateway.wait_lines(scene.calls)
    charged = sum((Decimal(line.get("cost_usd") or 0) for line in lines), Decimal(0))
    state = scene.gateway.budget(PROJECT)[LIMIT]
    used, limit = Decimal(state["used"]), Decimal(LIMIT.split()[0])
    screen.claim(
        f"{_usd(used)} of {limit} USD are used: the sum of the lines, and never more than the limit",
        used == charged and used <= limit,
        f"the lines say {_usd(charged)}",
    )
    screen.claim("nothing is held any more", Decimal(state["held"]) == 0, state["held"])


def _attack(scene: Scene) -> None:
    screen, standin = scene.screen, scene.standin
    screen.heading("6. Attempts to get out without paying")
    count, dialled = len(standin.snapshot()), standin.dialled
    without = f"http://{scene.gateway.proxy}"
    environ = {**scene.environ, "HTTPS_PROXY": without}
    with scene.working("a workload tries to get out without paying"):
        own_key, other_host = run_workload(
            "workload_attack.py", scene.environ["HTTPS_PROXY"], environ=environ
        )
    scene.calls += 2
    for event, text, status, code in (
        (own_key, "a provider key that the workload brought itself", 401, "identity_unknown"),
        (
            other_host,
            "a good token, but the Host of another server inside the tunnel",
            421,
            "authority_mismatch",
        ),
    ):
        refused = (event.get("status"), event.get("code")) == (status, code)
        screen.claim(f"{text}: {status} {code}", refused, str(event))
        if "message" in event:
            screen.talk(f"    {event['message']}")
    untouched = len(standin.snapshot()) == count and standin.dialled == dialled
    screen.claim(
        "the provider was not even dialled", untouched, f"{standin.dialled - dialled} connections"
    )


def _closing(scene: Scene) -> None:
    scene.screen.heading("In the end")
    lines = scene.gateway.wait_lines(scene.calls)
    gone_out = sum(line.get("status") == 200 for line in lines)
    book = scene.standin.snapshot()
    scene.screen.claim(
        f"{scene.calls} calls, {len(lines)} lines; {len(book)} of them reached the provider",
        len(lines) == scene.calls and gone_out == len(book),
        f"{gone_out} lines say 200",
    )


def _keep(scene: Scene) -> None:
    """Print what to paste into another terminal, then each call's line, until Ctrl-C."""
    screen = scene.screen
    scene.gateway.make_project(PROJECT, "10 usd/day", tenant="demo")
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
    program = (
        "from openai import OpenAI; print(OpenAI(api_key='not-a-key').chat.completions.create("
        "model='gpt-4o', messages=[{'role': 'user', 'content': 'Hello'}]).choices[0].message.content)"
    )
    config = shlex.quote(str(scene.gateway.config))
    tollhouse = f"{shlex.quote(sys.executable)} -m tollhouse"
    screen.heading("It keeps running until Ctrl-C. Paste into another terminal:")
    screen.say()
    for name, value in scene.environ.items():
        screen.say(f"export {name}={shlex.quote(value)}")
    screen.say(f"export TOLLHOUSE_CONFIG={config}")
    screen.say("unset NO_PROXY no_proxy https_proxy SSL_CERT_DIR")
    screen.say(f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}")
    screen.say(
        'curl -sS --cacert "$SSL_CERT_FILE" https://api.openai.com/v1/chat/completions '
        f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
    )
    screen.say(f"{tollhouse} budget show {PROJECT}")
    screen.say()
    screen.say("The lines of your calls:", dim=True)
    scene.gateway.on_line(lambda line: screen.say(f"  {line.rstrip()}", fg="cyan"))
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does, so that the gateway is stopped and the directory removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _usd(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
