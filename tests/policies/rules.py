"""The rules of a rendered packet filter, each of which can be taken out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROUTER = Path(__file__).parents[2] / "policies" / "nftables-router" / "router.nft"
_CHAIN = re.compile(r"(?ms)^    chain (\w+) \{\n(.*?)^    \}\n")


class Rule(NamedTuple):
    chain: str
    text: str

    def __str__(self) -> str:
        return f"{self.chain}: {self.text}"


def rules(text: str) -> Iterator[Rule]:
    """Each line of each chain, in order. A chain's policy of drop is a rule as well."""
    for chain, body in _CHAIN.findall(text):
        for line in map(str.strip, body.splitlines()):
            if line.startswith("type "):
                if "policy drop;" in line:
                    yield Rule(chain, "policy drop")
            elif line and not line.startswith("#"):
                yield Rule(chain, line)


def without(text: str, *taken: Rule) -> str:
    """The same filter without them. Nothing else of the text changes."""
    for rule in taken:
        [match] = [found for found in _CHAIN.finditer(text) if found[1] == rule.chain]
        body = match[2]
        if rule.text == "policy drop":
            changed = body.replace("policy drop;", "policy accept;")
        else:
            lines = body.splitlines(keepends=True)
            at = [line.strip() for line in lines].index(rule.text)
            changed = "".join(lines[:at] + lines[at + 1 :])
        assert changed != body
        text = text[: match.start(2)] + changed + text[match.end(2) :]
    return text
