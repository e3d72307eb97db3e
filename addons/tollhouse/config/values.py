"""The single values of tollhouse.toml, each judged by itself. Addresses stand in `addresses`, what names a store in
`store_places`.

A validator raises ValueError with "what is wrong, why, what to do"; no message repeats a value that could be a secret.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from tollhouse.companions import AGENTS
from tollhouse.families.opened import Opening, parse_opening
from tollhouse.headers import HOP_BY_HOP, THIS_MESSAGE
from tollhouse.providers import BUILT_IN, CREDENTIAL_HEADERS


def _path(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError(
            'must be a path in quotes ("..."), absolute or relative to the configuration file'
        )
    base = info.context["base"] if info.context else Path.cwd()
    return Path(base, value)


def _calls(value: object, info: ValidationInfo) -> object:
    return "-" if value == "-" else _path(value, info)


@dataclass(frozen=True, slots=True)
class AddonPlace:
    """A class of an operator's file, by which a mitmproxy addon is made."""

    file: Path
    name: str

    def __str__(self) -> str:
        return f"{self.file.name}:{self.name}"


def _addon(value: object, info: ValidationInfo) -> AddonPlace:
    text = value if isinstance(value, str) else ""
    file, _, name = text.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise ValueError(
            'must be "FILE.py:CLASS", because a file may hold several addons; write it like "redact.py:Redact"'
        )
    return AddonPlace(_path(file, info), name)


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


# Names are parts of Vault paths, Redis hash tags and Basic user names: no slash, brace, colon, space, leading dot.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PROVIDER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            "cannot be a name, because names stand in URLs and Vault paths; use letters, digits and . _ -"
        )
    return text


def _provider_name(text: str) -> str:
    if not _PROVIDER_NAME.fullmatch(text):
        raise ValueError(
            "cannot be a provider's name, because it is a part of URLs; use lower-case letters, digits, _ -"
        )
    if re.fullmatch(r"v[0-9].*", text):
        raise ValueError(
            "begins like an API version, and /v1/... of the base URL is no provider; choose another name"
        )
    return text


def _agent(text: str) -> str:
    known = [one.agent for one in AGENTS]
    if text not in known:
        raise ValueError(f"is no agent whose companions are known; known are {', '.join(known)}")
    return text


def _companions(value: object) -> object:
    return {"hosts": value} if isinstance(value, str) else value


_FAMILIES: Final = tuple(
    dict.fromkeys(name for p in BUILT_IN if not p.login_only for name in (p.family.name, p.name))
)


def _provider_family(text: str) -> str:
    if text not in _FAMILIES:
        *others, last = map(repr, _FAMILIES)
        raise ValueError(f"must be {', '.join(others)} or {last}; correct the value")
    return text


def _opening(value: object) -> Opening:
    if isinstance(value, Opening):
        return value
    if not isinstance(value, str):
        raise ValueError('must be a string such as "POST /v1/new_thing"; put it in quotes')
    return parse_opening(value)


def _dollars(value: object) -> object:
    """Nano-dollars."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000:
        return value * 1_000_000_000
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", value):
        raise ValueError(
            'must be USD as a whole number or as a decimal number in quotes ("0.50") with at most 9 decimals, up to a '
            "million, because a float would not be exact"
        )
    whole, _, part = value.partition(".")
    return int(whole) * 1_000_000_000 + int(part.ljust(9, "0") or "0")


def _nonempty(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; give it a value or remove the key")
    return text


def _proxy_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        port, parts = None, urlsplit("")
    sound = (
        parts.scheme in ("http", "https")
        and parts.hostname
        and port
        and not (parts.path.strip("/") or parts.query or parts.fragment)
    )
    if "@" in text:
        raise ValueError(
            "has a user name or a password in it; put them into the store (fields username and password) and name the "
            "path as secret"
        )
    if not sound:
        raise ValueError(
            'must be http://HOST:PORT or https://HOST:PORT, like "http://proxy.internal:3128"'
        )
    return text


# RFC 9110, section 5.6.2: token.
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
# Headers with a meaning of their own; each of them is sent or stripped by its own rule.
_RESERVED: Final = frozenset(
    {
        *CREDENTIAL_HEADERS,
        *HOP_BY_HOP,
        *THIS_MESSAGE,
        *(
            "proxy-authorization",
            "cookie",
            "content-type",
            "content-encoding",
            "accept",
            "user-agent",
            "traceparent",
        ),
    }
)


def _header_name(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise ValueError(
            "is not the name of a header (RFC 9110, token); use letters, digits and hyphens"
        )
    if text.lower() in _RESERVED:
        raise ValueError(
            "has a meaning of its own, and this header is stripped from every call; choose another"
        )
    return text


def _model_name(text: str) -> str:
    # `families.openai.request` takes names of models of this length; an ARN of AWS is longer.
    if not text.strip() or len(text) > 2048 or not text.isprintable():
        raise ValueError("is not the name of a model; write 1 to 2048 printable characters")
    return text


def _price_of(units: str, example: str) -> BeforeValidator:
    def price(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError(
                f'must be a decimal number in quotes ("{example}"), because a float would not be exact'
            )
        if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,9})?", value):
            raise ValueError(
                f'must be a decimal number of USD per {units} with at most 9 decimals, for example "{example}"'
            )
        return value

    return BeforeValidator(price)


_JWT_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)


def _jwt_algorithm(text: str) -> str:
    if text not in _JWT_ALGORITHMS:
        raise ValueError(
            f"is none of {', '.join(_JWT_ALGORITHMS)}; none and HS... are never taken, since whoever can verify those can "
            "sign them"
        )
    return text


def _identity_issuer(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "spiffe") or not parts.hostname or parts.query:
        raise ValueError(
            "must be the iss of its tokens, exactly (https://...), or a SPIFFE trust domain (spiffe://example.org)"
        )
    if parts.scheme == "spiffe" and (parts.path or text != text.lower()):
        raise ValueError("is no SPIFFE trust domain; write spiffe://example.org, without a path")
    return text


def _jwks_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        raise ValueError(
            "must be an https:// URL, because whoever can change the keys on their way can be anybody; a private CA is "
            "named as ca_file"
        )
    return text


def _identity_rule(text: str) -> str:
    from tollhouse.identities.templates import rule_problem

    if problem := rule_problem(text):
        raise ValueError(problem)
    return text


def _claim_name(text: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError("is the name of a claim, and no template; write it without braces")
    return _identity_rule(text)


def _tenant_rule(text: str) -> str:
    return _identity_rule(text) if "{" in text or "}" in text else _name(text)


def _network(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('must be a network in quotes, such as "10.1.0.0/16"')
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(
            'is no network; write it like "10.1.0.0/16" or "fd00:1::/64", without bits behind the mask'
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        raise ValueError(
            "is of IPv4 addresses in IPv6's form, and a client is known by its own; write it as IPv4"
        )
    if not network.prefixlen:
        raise ValueError("is everybody, and an identity of everybody is none; name a network")
    return network


def _one_or_list(value: object) -> object:
    return (value,) if isinstance(value, str) else _tuple(value)


FilePath = Annotated[Path, BeforeValidator(_path)]
"""Absolute; a relative one was relative to the configuration file (the validation context's ``base``)."""
CallsFile = BeforeValidator(_calls)
List = BeforeValidator(_tuple)
"""A TOML list as a tuple, which strict validation would refuse."""
OfCompanions = BeforeValidator(_companions)

Addon = Annotated[AddonPlace, BeforeValidator(_addon)]
ProviderFamily = Annotated[str, AfterValidator(_provider_family)]
OpenedPath = Annotated[Opening, BeforeValidator(_opening)]
Dollars = Annotated[int, BeforeValidator(_dollars)]
"""In nano-dollars."""

Name = Annotated[str, AfterValidator(_name)]
AgentName = Annotated[str, AfterValidator(_agent)]
ProviderName = Annotated[str, AfterValidator(_provider_name)]
ModelName = Annotated[str, AfterValidator(_model_name)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Text = Annotated[str, AfterValidator(_nonempty)]
Texts = Annotated[tuple[Text, ...], List]

JwtAlgorithm = Annotated[str, AfterValidator(_jwt_algorithm)]
IdentityIssuer = Annotated[str, AfterValidator(_identity_issuer)]
JwksAddress = Annotated[str, AfterValidator(_jwks_url)]
ClaimName = Annotated[str, AfterValidator(_claim_name)]
"""Or a JSON Pointer to it."""
IdentityRule = Annotated[str, AfterValidator(_identity_rule)]
"""The name of a claim, or a template."""
TenantRule = Annotated[str, AfterValidator(_tenant_rule)]
"""A tenant's name, or a template."""
SourceRange = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
OneOrList = BeforeValidator(_one_or_list)

ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Price = Annotated[str, _price_of("million tokens", "2.50")]
CharacterPrice = Annotated[str, _price_of("million characters", "15")]
SecondPrice = Annotated[str, _price_of("second", "0.0001")]
ImagePrice = Annotated[str, _price_of("image", "0.04")]
PagePrice = Annotated[str, _price_of("page", "0.002")]
SearchPrice = Annotated[str, _price_of("search", "0.01")]
RequestPrice = Annotated[str, _price_of("request", "0.005")]
