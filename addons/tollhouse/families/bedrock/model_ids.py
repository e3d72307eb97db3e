"""Which model a path names. The id is a segment of the path, percent-encoded.

It is the id of a model, of an inference profile (``us.``, ``global.``), or the ARN of one of
several things: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html.
An ARN has slashes, which stand encoded in the path.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

_COLON: Final = r"(?::|%3[Aa])"
_SLASH: Final = r"%2[Ff]"
_WORD: Final = rf"[A-Za-z0-9](?:[A-Za-z0-9._-]|{_COLON})*"
ARN: Final = rf"arn{_COLON}aws(?:-[a-z-]+)?{_COLON}{_WORD}(?:{_SLASH}{_WORD}){{1,3}}"
SEGMENT: Final = rf"(?:{_WORD}|{ARN})"
"""A pattern for the model in a path. Each part of an ARN begins with a letter or a digit, so that
no decoded segment is ``.``, ``..`` or empty. A ``%`` in an id is no id of Bedrock's, so that nothing
can be encoded twice."""

_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:bedrock:[a-z0-9-]*:[0-9]*:(?:foundation-model|inference-profile)/([^/]+)"
)
"""ARNs that have the id that the table of prices knows. The other ones hide the model."""
_REQUESTED: Final = re.compile(rf"/model/({SEGMENT})/[a-z-]+")


def requested_model(path: str) -> str:
    """The model of a request's path; "" for a path that names none."""
    found = _REQUESTED.fullmatch(path)
    return plain_id(unquote(found[1])) if found is not None else ""


def plain_id(name: str) -> str:
    """The id in the ARN of a base model or of a system's inference profile. Any other name stays as
    it is."""
    found = _ARN.fullmatch(name)
    return name if found is None else found[1]


_SPEAKS_AT_ONCE: Final = re.compile(
    r"amazon\.(?:nova-(?:micro|lite|pro|premier)|titan)|meta\.llama|cohere\.|ai21\."
    r"|mistral\.(?:mistral|mixtral|pixtral|ministral|devstral|voxtral)"
    r"|anthropic\.claude-(?:v2|instant|3-(?!7))"
)
"""Models without reasoning: https://docs.aws.amazon.com/bedrock/latest/userguide/inference-reasoning.html."""


def can_reason_at_bedrock(model: str) -> bool:
    """Any model that is not known to be without reasoning can."""
    return _SPEAKS_AT_ONCE.search(model) is None
