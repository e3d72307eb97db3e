"""The road of one call in sentences, from its record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from tollhouse.denial import REASONS
from tollhouse.exports.bill import FEMTO, UNMETERED, Item
from tollhouse.exports.focus import METERS
from tollhouse.exports.record import nano
from tollhouse.ledger.limits import format_usd

_RULES: Final = {
    "usage": "The provider's own count was charged.",
    "hold": "All that was held was charged, because no count came that could be believed.",
    "estimate": "What was seen was charged, by an estimate, because the answer did not come whole or had no count.",
    "disconnect": "The workload left or the gateway stopped, so what had come by then was charged.",
    "sweep": "Its gateway died, so all that was held was charged; what is told of the call later corrects it.",
    "later": "Nothing was charged yet: its usage comes later, and the hold stays until then.",
    "none": "It was charged nothing.",
}
_ENDED: Final = {
    "client_gone": "The workload closed the connection before the answer ended.",
    "stopped": "The gateway was stopped before the answer ended.",
    "swept": "Its gateway died before it ended.",
    "later": "It was answered in the background, and this is what it cost in the end.",
    "addon": "An addon of the gateway's operator answered it.",
    "upstream_error": "The provider answered with an error under a status of success.",
    "tunnel_idle": "Nothing came through the tunnel for too long.",
    "tunnel_too_long": "The tunnel was open for as long as one may be.",
}
_NO_ANSWER: Final = {"cancelled": "cancelled, as the workload had left"}


def sentences(lines: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> Iterator[str]:
    """``lines`` are the call's records in their order, as `Record.line` gives them or as the log has them; ``items`` are the
    bill of the last one."""
    line = lines[-1]
    yield _asked(line)
    if line["reason"] in REASONS:
        yield from _refused(line)
    elif line["reason"]:
        yield _ENDED.get(line["reason"], f"It ended with {line['reason']}.")
    yield from _held(line)
    yield from _left(line)
    yield from _answered(line)
    yield from _cost(lines, items)


def _asked(line: Mapping[str, Any]) -> str:
    who = (
        f"the identity {line['identity']}"
        if line["identity"]
        else "somebody without a valid identity"
    )
    if line.get("subject"):
        who += f" ({line['subject']})"
    if line["project"]:
        who += f" of project {line['project']}"
    if line["tenant"]:
        who += f" (tenant {line['tenant']})"
    whom = line["host"] or "a host that nobody knows"
    if line["provider"]:
        whom = f"{line['provider']} ({whom})"
    what = " ".join(part for part in (line["method"], line["path"]) if part)
    model = f" with model {line['model']}" if line["model"] else ""
    way = f" by the listener {line['listener']}" if line["listener"] else ""
    source = f" from {line['client_ip']}" if line["client_ip"] else ""
    stream = ", as a stream" if line["stream"] else ""
    session = f", in session {line['session']}" if line["session"] else ""
    return (
        f"{line['ts'] or 'At a time that is not known'}: {who} asked {whom} for "
        f"{what or 'a connection'}{model}{stream}{session}{source}{way}."
    )


def _refused(line: Mapping[str, Any]) -> Iterator[str]:
    reason = REASONS[line["reason"]]
    gate = f" by the gate {line['gate']}" if line["gate"] else ""
    verb = "refused" if line["decision"] == "deny" else "ended"
    yield f"It was {verb}{gate} with {line['status'] or 'no status'} {line['reason']}: {reason.what}"
    if line.get("why"):
        yield str(line["why"])
    again = (
        "The same call may be sent again."
        if reason.retry
        else "The same call will be refused again."
    )
    yield f"Who acts is {_WHO[reason.fault.value]}. What to do: {reason.todo} {again}"


_WHO: Final = {
    "workload": "the workload",
    "policy": "whoever runs the gateway, if it is to be allowed",
    "budget": "whoever sets the limits",
    "provider": "nobody here: it is the provider's fault",
    "us": "whoever runs the gateway",
}


def _held(line: Mapping[str, Any]) -> Iterator[str]:
    held = nano(line["held_usd"])
    if line["decision"] == "deny" and not held:
        yield "Nothing was held for it, and nothing left the gateway."
        return
    if not held:
        yield "No money was held for it."
        return
    wanted = line.get("held_for") or {}
    why = "what it could cost at most, as it was estimated"
    if wanted:
        why = (
            f"{wanted['input']} tokens of input, counted by its text, and {wanted['output']} of output, which is the cap that it "
            "names or the longest answer of the model, at the dearest price that they could meet"
        )
    yield f"{format_usd(held)} USD was held before it left: {why}."
    if line["clamped"] is not None:
        yield f"Its output cap was lowered to {line['clamped']} tokens, because no more was left."
    if line.get("unsafe_fail_open"):
        yield "Redis was away, and it was let through without a limit (unsafe_fail_open)."


def _left(line: Mapping[str, Any]) -> Iterator[str]:
    if line["key_version"] == "login":
        yield "It went with the workload's own login, and with no key of the gateway."
    elif line["key_version"]:
        yield f"The key {line['key_version']} was put on."
    if attempts := line["attempts"]:
        tries = ", then ".join(
            f"{_NO_ANSWER.get(one['outcome'], one['outcome'])} after {one['ms']:g} ms"
            + (f" at {one['provider']}" if one.get("provider") else "")
            for one in attempts
        )
        times = "once" if len(attempts) == 1 else f"{len(attempts)} times"
        yield f"It was sent {times}: {tries}."
    if line["attempts_unknown"]:
        yield f"Of {line['attempts_unknown']} of these nobody knows whether the provider worked on it."
    if line["breaker"] not in ("", "closed"):
        yield f"The provider's circuit breaker was {line['breaker']}."
    if line.get("fallback_from"):
        yield f"{line['fallback_from']} could not serve it, so its fallback {line['provider']} has answered."


def _answered(line: Mapping[str, Any]) -> Iterator[str]:
    if line["decision"] == "deny" or not line["status"]:
        return
    served = line["model_served"]
    by = f" by {served}" if served and served != line["model"] else ""
    first = f", its first byte after {line['ttft_ms']:g} ms" if line["ttft_ms"] is not None else ""
    took = ""
    if line["duration_ms"] is not None:
        took = f", all of it after {line['duration_ms']:g} ms, of which {line['overhead_ms'] or 0:g} ms were the gateway's"
    yield f"It was answered with {line['status']}{by}{first}{took}."
    if line.get("bytes"):
        yield f"{line['bytes']['sent']} bytes were sent and {line['bytes']['received']} received."


def _cost(lines: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> Iterator[str]:
    line = lines[-1]
    cost = nano(line["cost_usd"])
    if line["decision"] != "deny" or cost:
        tables = f" by the prices of {line['price']}" if line.get("price") else ""
        yield f"{_RULES.get(line['charged_by'], '')} It cost {format_usd(cost)} USD{tables}.".strip()
    for item in items:
        if item.unit != UNMETERED:
            yield _item(item)
    if line.get("notional_usd"):
        yield f"By a key of the gateway it would have cost {line['notional_usd']} USD."
    for earlier in lines[:-1]:
        if earlier.get("reason") == "swept" or earlier.get("settled_by") == "sweep":
            yield f"Before that it had been charged {earlier['cost_usd']} USD by a sweep, which was taken back."


def _item(item: Item) -> str:
    meter, _ = METERS[item.unit]
    count = f"{item.number / 1000:g}" if item.unit == "milliseconds" else str(item.number)
    costs = format(Decimal(item.femto_usd) / (FEMTO * 10**9), "f")
    costs = costs.rstrip("0").rstrip(".") if "." in costs else costs
    return f"  {count} {meter.lower()} of {item.model}{_at(item)}: {costs} USD"


def _at(item: Item) -> str:
    if item.unit_price is None:
        return ""
    if item.unit in ("images", "pages", "searches", "requests"):
        return f" at {_short(item.unit_price)} USD each"
    if item.unit == "milliseconds":
        return f" at {_short(item.unit_price * 3_600_000)} USD an hour"
    return f" at {_short(item.unit_price * 10**6)} USD a million"


def _short(usd: Fraction) -> str:
    text = format(round(Decimal(usd.numerator) / usd.denominator, 9), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
