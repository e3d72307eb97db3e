"""The single values of tollhouse.toml: addresses, host names, paths, names, URLs; each judged by itself.

A validator raises ValueError with "what is wrong, why, what to do"; no message repeats a value that could be a secret.

Past 400 lines because each kind of value stands here with the words for what is wrong with it.
"""

from __future__ import annotations

import dataclasses
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

EVERY_ADDRESS: Final = "*"


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name or IP literal, IPv6 without brackets) and a TCP port; port 0 of a listener is any free port.

    The host ``*`` of a listener is every address of this machine, of both families."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """127.0.0.0/8, ::1 and ``localhost``. Any other name counts as not loopback: it is not resolved here."""
        literal = _ip(self.host)
        return literal.is_loopback if literal else self.host == "localhost"

    @property
    def bound_to(self) -> str | None:
        """The host as `socket.getaddrinfo` takes it for a listener."""
        return None if self.host == EVERY_ADDRESS else self.host

    @property
    def own_literals(self) -> tuple[str, ...]:
        """The loopback addresses that a listener here is bound to. A request that names one of them
        was not led here by a name of somebody else's (DNS rebinding)."""
        if not self.is_loopback:
            return ()
        return (self.host,) if _ip(self.host) else ("127.0.0.1", "::1")

    @property
    def is_inside(self) -> bool:
        """An IP literal that is not public, or ``localhost``. Any other name is judged when it is dialled."""
        literal = _ip(self.host)
        if literal is None:
            return self.host == "localhost" or self.host.endswith(".localhost")
        literal = getattr(literal, "ipv4_mapped", None) or literal
        return not literal.is_global or literal.is_multicast


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# A last label that is a number makes the whole an IPv4 address: https://url.spec.whatwg.org/#ends-in-a-number-checker
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Whoever likes may have a name below these, and be sent a key. A wildcard there is never one's own.
_ANYBODYS: Final = (
    *(
        "amazonaws.com",
        "amazonaws.com.cn",
        "api.aws",
        "awsapprunner.com",
        "cloudfront.net",
        "on.aws",
    ),
    *(
        "azure-api.net",
        "azure.cn",
        "azure.com",
        "azure.us",
        "azurecontainerapps.io",
        "azuredatabricks.net",
    ),
    *("azurefd.net", "azurewebsites.net", "cloudapp.net", "trafficmanager.net", "windows.net"),
    *(
        "appspot.com",
        "cloudfunctions.net",
        "firebaseapp.com",
        "googleapis.com",
        "run.app",
        "web.app",
    ),
    *(
        "aliyuncs.com",
        "databricks.com",
        "myhuaweicloud.com",
        "oraclecloud.com",
        "snowflakecomputing.com",
    ),
    *(
        "fly.dev",
        "github.io",
        "gitlab.io",
        "herokuapp.com",
        "netlify.app",
        "onrender.com",
        "railway.app",
        "vercel.app",
    ),
    *("hf.space", "huggingface.cloud", "lambdalabs.com", "modal.run", "runpod.net", "together.xyz"),
    *(
        "duckdns.org",
        "ngrok-free.app",
        "ngrok.app",
        "ngrok.io",
        "nip.io",
        "sslip.io",
        "ts.net",
        "trycloudflare.com",
    ),
    *("pages.dev", "workers.dev"),
)
# co.uk, com.au and their like are registries.
_REGISTRY: Final = re.compile(r"(?:ac|co|com|edu|gov|ne|net|or|org)\.[a-z]{2}")
_IP_LITERAL: Final = "is an IP address, and our CA cannot sign for one; name the host and put the address into connect_to"


def _dns_name(text: str) -> str:
    """``text`` in lower case and without its last dot."""
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            "is not a DNS name; use ASCII letters, digits and hyphens (an international name as xn--...)"
        )
    if _NUMBER.fullmatch(labels[-1]):
        raise ValueError(
            "is a malformed IP address, because its last label is a number; write it in full"
        )
    return name


def _provider_host(text: str) -> str:
    bare = text.removeprefix("[").removesuffix("]")
    if "/" in text:
        raise ValueError(
            'must be a host name alone, without scheme and path; write "api.example.com"'
        )
    if _ip(bare) or _NUMBER.fullmatch(text.lower().removesuffix(".").rpartition(".")[2]):
        raise ValueError(_IP_LITERAL)
    if ":" in text:
        raise ValueError(
            "must be a host name without a port; put the port into the key port of this provider"
        )
    rest = text.removeprefix("*.")
    if "*" in rest:
        raise ValueError(
            'has a wildcard inside; only a leading "*." is known, which stands for exactly one label'
        )
    name = _dns_name(rest)
    if rest == text:
        return name
    if "." not in name:
        raise ValueError(
            "covers a whole top-level domain, and anybody's host would be given the key; name two labels"
        )
    if _REGISTRY.fullmatch(name) or any(f".{name}".endswith(f".{shared}") for shared in _ANYBODYS):
        raise ValueError(
            "covers names that anybody can have, and whoever is called there would be given the key; name each host of "
            "yours in full"
        )
    return f"*.{name}"


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError('must be a string "HOST:PORT"; put it in quotes')
    host, separator, port = value.rpartition(":")
    if not separator or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(
            'must be "HOST:PORT" with a port up to 65535, for example "127.0.0.1:8080"'
        )
    if host.startswith("[") and host.endswith("]") and _ip(host[1:-1]):
        return Address(host[1:-1].lower(), int(port))
    if ":" in host:
        raise ValueError(
            'must have an IPv6 address in brackets, because its colons hide the port; write "[::1]:8080"'
        )
    if not host:
        raise ValueError(
            'has no host; write "127.0.0.1:PORT" for this machine alone, "0.0.0.0:PORT" for all addresses'
        )
    return Address(host if _ip(host) else _dns_name(host), int(port))


def _listener(value: object) -> Address | None:
    if isinstance(value, str) and value.startswith(EVERY_ADDRESS + ":"):
        return dataclasses.replace(_address(f"localhost{value[1:]}"), host=EVERY_ADDRESS)
    return None if value is None or value == "off" else _address(value)


def _target(value: object) -> Address:
    address = _address(value)
    if address.port == 0:
        raise ValueError("has port 0, which cannot be dialled; write the port of the upstream")
    return address


def _allowed_host(text: str) -> str:
    bare = text.removeprefix("[").removesuffix("]")
    if _ip(bare):
        return bare.lower()
    if "*" in text:
        raise ValueError(
            "has a wildcard, and any web page could reach this listener (DNS rebinding); name each host"
        )
    if ":" in text:
        raise ValueError("must be a host without a port; remove the port")
    return _dns_name(text)


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


_REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+cluster", "redis+sentinel")


def _redis_url(text: str) -> str:
    from tollhouse.ledger.store.urls import CLUSTER, SENTINEL, check_one_server, parse_servers

    if text == "embedded":
        return text
    if text.startswith((CLUSTER, SENTINEL)):
        parse_servers(text)
        return text
    try:
        parts = urlsplit(text)
        server = parts.path if parts.scheme == "unix" else parts.hostname
        server = None if parts.port == 0 else server
    except ValueError:
        raise ValueError(
            "is not a URL; write redis://HOST:PORT/DB, a password in it URL-encoded"
        ) from None
    if parts.scheme not in _REDIS_SCHEMES:
        schemes = ", ".join(f"{scheme}://" for scheme in _REDIS_SCHEMES)
        raise ValueError(f'must begin with one of {schemes}, or be "embedded"')
    if not server:
        raise ValueError(
            "names no server; write redis://HOST:PORT/DB or unix:///path/to/redis.sock"
        )
    check_one_server(parts)
    return text


def _vault_address(text: str) -> str:
    if text == "embedded":
        return text
    try:
        parts = urlsplit(text)
        bad_port = parts.port == 0
    except ValueError:
        raise ValueError('is not a URL; write https://HOST:8200, or "embedded"') from None
    if parts.scheme not in ("http", "https") or not parts.hostname or bad_port:
        raise ValueError('must be https://HOST:PORT, or "embedded"')
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "must be a bare URL; how to log in belongs into auth, never into the address"
        )
    return text.rstrip("/")


def _mount(text: str) -> str:
    from tollhouse.credential.paths import path_problem

    mount = text.strip("/")
    if problem := path_problem(mount):
        raise ValueError(f'{problem}; write the name of the mount, for example "secret"')
    return mount


def _vault_path(text: str) -> str:
    from tollhouse.credential.paths import template_problem

    if problem := template_problem(text):
        raise ValueError(f"{problem}; write the path below the mount, without a leading /")
    if "{provider}" not in text:
        raise ValueError(
            "has no {provider}, and one provider's key would be sent to another; put {provider} into it"
        )
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


def _vault_place(text: str) -> str:
    from tollhouse.credential.paths import path_problem

    if problem := path_problem(text):
        raise ValueError(
            f'{problem}; write a path as it is in Vault below the mount: "infrastructure/openai" = 3'
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


FilePath = Annotated[Path, BeforeValidator(_path)]
"""Absolute; a relative one was relative to the configuration file (the validation context's ``base``)."""
CallsFile = BeforeValidator(_calls)
List = BeforeValidator(_tuple)
OfCompanions = BeforeValidator(_companions)
"""A TOML list as a tuple, which strict validation would refuse."""

Addon = Annotated[AddonPlace, BeforeValidator(_addon)]
Listener = Annotated[Address | None, BeforeValidator(_listener)]
"""``"off"`` is None."""
Target = Annotated[Address, BeforeValidator(_target)]
AllowedHost = Annotated[str, AfterValidator(_allowed_host)]
ProviderFamily = Annotated[str, AfterValidator(_provider_family)]
ProviderHost = Annotated[str, AfterValidator(_provider_host)]
OpenedPath = Annotated[Opening, BeforeValidator(_opening)]
Dollars = Annotated[int, BeforeValidator(_dollars)]
"""In nano-dollars."""
Port = Annotated[int, Field(ge=1, le=65535)]

Name = Annotated[str, AfterValidator(_name)]
AgentName = Annotated[str, AfterValidator(_agent)]
ProviderName = Annotated[str, AfterValidator(_provider_name)]
ModelName = Annotated[str, AfterValidator(_model_name)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Text = Annotated[str, AfterValidator(_nonempty)]
Texts = Annotated[tuple[Text, ...], List]

RedisUrl = Annotated[str, AfterValidator(_redis_url)]
VaultAddress = Annotated[str, AfterValidator(_vault_address)]
VaultMount = Annotated[str, AfterValidator(_mount)]
ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]
VaultPath = Annotated[str, AfterValidator(_vault_path)]
"""A template."""
VaultPlace = Annotated[str, AfterValidator(_vault_place)]
"""A path, filled."""

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Price = Annotated[str, _price_of("million tokens", "2.50")]
CharacterPrice = Annotated[str, _price_of("million characters", "15")]
SecondPrice = Annotated[str, _price_of("second", "0.0001")]
ImagePrice = Annotated[str, _price_of("image", "0.04")]
PagePrice = Annotated[str, _price_of("page", "0.002")]
SearchPrice = Annotated[str, _price_of("search", "0.01")]
RequestPrice = Annotated[str, _price_of("request", "0.005")]
