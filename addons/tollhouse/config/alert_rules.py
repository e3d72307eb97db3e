"""Rules of [[alerts]] that need two keys at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tollhouse.config.alert_tables import AlertConfig
from tollhouse.config.text import Broken, dotted


def alert_rules(alerts: Sequence[AlertConfig]) -> Broken:
    """Each receiver has one place of its URL and a name of its own, and is told something."""
    names: set[str] = set()
    for index, entry in enumerate(alerts):
        for key, message in _entry(entry):
            yield dotted(("alerts", index, key)), message
        if entry.called and entry.called in names:
            yield (
                dotted(("alerts", index, "name")),
                f"{entry.called} is there twice, and what waits for a receiver waits under its name; give each entry a name",
            )
        names.add(entry.called)


def _entry(entry: AlertConfig) -> Iterator[tuple[str, str]]:
    if entry.to is not None and entry.to_file is not None:
        yield "to_file", "is there beside to, and a receiver has one URL; remove one of the two"
    elif entry.to is None and entry.to_file is None and entry.secret is None:
        yield (
            "to",
            "is missing, so nobody would be told; give it, to_file, or secret with the field url",
        )
    if entry.name is None and entry.to is None:
        yield (
            "name",
            "is missing, and without to there is no host to call the receiver by; give it a name",
        )
    if entry.speaks == "slack" and entry.signing_secret_file is not None:
        yield "signing_secret_file", "has no effect with Slack, which verifies none; remove it"
    elif entry.secret is not None and not entry.fields:
        yield "secret", "has no effect, as files have all that is needed; remove it, or the files"
    if not entry.at and not entry.tells:
        yield "at", 'is empty and so is on, so nothing would be told; write at = ["80%", "100%"]'
    if len(set(entry.at)) < len(entry.at):
        yield "at", "has a share twice, and each is told once; remove one"
    if entry.tenants is not None and "*" in entry.tenants:
        yield "tenants", "is all of them by itself where projects are not named; remove it"
