"""Addresses and host names of tollhouse.toml, each judged by itself as `values` are."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

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


Listener = Annotated[Address | None, BeforeValidator(_listener)]
"""``"off"`` is None."""
Target = Annotated[Address, BeforeValidator(_target)]
AllowedHost = Annotated[str, AfterValidator(_allowed_host)]
ProviderHost = Annotated[str, AfterValidator(_provider_host)]
Port = Annotated[int, Field(ge=1, le=65535)]
