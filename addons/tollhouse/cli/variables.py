"""What the environment of a workload must say, and what it must not: proxy, CA, and no provider's key.

What each program reads was tried: certs/README.md and docs/agents.md.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from tollhouse.admit.identifying import PLACEHOLDER
from tollhouse.providers import Catalog, Login

if TYPE_CHECKING:
    from tollhouse.trust.ca import CertificateAuthority

PROXIES: Final = ("HTTPS_PROXY", "https_proxy")
WAYS_ROUND: Final = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
"""Some programs take these before or beside HTTPS_PROXY: Claude Code, Codex for its WebSocket."""
LOCAL: Final = ("localhost", "127.0.0.1", "::1")
REPLACE_ROOTS: Final = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "CODEX_CA_CERTIFICATE",
    "PIP_CERT",
)
"""They replace the public roots, so that they name the bundle."""
ADD_ROOTS: Final = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
"""They add to the roots that the program brings."""

BASES: Final = ("_BASE_URL", "_API_BASE")
"""How variables end in which an SDK looks for the URL that it calls: OPENAI_BASE_URL, ANTHROPIC_BASE_URL."""

Shell = Literal["bash", "fish"]


@dataclass(frozen=True, slots=True)
class Variables:
    """``values`` are set and ``unset`` are taken away. ``left_out`` are those of either that held a provider's key. ``elsewhere``
    stay, and have a program call another host than a provider's."""

    values: Mapping[str, str]
    unset: tuple[str, ...]
    left_out: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()

    def applied(self, environ: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in environ.items() if name not in self.unset}
        return {**kept, **self.values}

    def lines(self, shell: Shell) -> Iterator[str]:
        """For `eval`. A value may hold anything."""
        for name in self.unset:
            yield f"set -e {name}" if shell == "fish" else f"unset {name}"
        for name, value in self.values.items():
            if shell == "fish":
                yield f"set -gx {name} {_fish(value)}"
            else:
                yield f"export {name}={shlex.quote(value)}"


def _fish(value: str) -> str:
    """Between single quotes only these two are special: https://fishshell.com/docs/current/language.html#quotes."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def variables(
    environ: Mapping[str, str],
    catalog: Catalog,
    *,
    proxy: str,
    certs: Path,
    wanted: Collection[str],
    logins: bool = False,
) -> Variables:
    """``proxy`` is its URL with the credentials in it, ``certs`` the directory that `write_certs` has filled. Providers in
    ``wanted`` get a placeholder for a key, and so do those whose key is in ``environ``. With ``logins`` a subscription's login
    stays. Then a variable that would hide it has a placeholder only where ``environ`` has a key in it, and no login."""
    keys: dict[str, str] = {}
    left_out: list[str] = []
    unset = [name for name in WAYS_ROUND if name in environ]
    passed = [one.login for one in catalog.providers if logins and one.login is not None]
    hiding = {
        name for login in passed if not _key_is_meant(login, environ) for name in login.hidden_by
    }
    for provider in catalog.providers:
        held = [name for name in provider.key_variables if environ.get(name, "").strip()]
        tokens = provider.login.variables if provider.login is not None else ()
        if not logins:
            left_out += [name for name in tokens if environ.get(name, "").strip()]
        left_out += [name for name in held if name not in left_out]
        if provider.key_variables and (held or provider.name in wanted):
            # Of others one: programs complain of two.
            first = (held or provider.key_variables)[:1]
            keys.update(dict.fromkeys(provider.demanded or first, PLACEHOLDER))
    keys = {name: value for name, value in keys.items() if name not in hiding}
    unset += [name for name in left_out if name not in keys]
    bundle, own = str(certs / "bundle.pem"), str(certs / "ca.pem")
    inside = ",".join(_not_proxied(environ, catalog.hosts))
    values = {
        **dict.fromkeys(PROXIES, proxy),
        "NO_PROXY": inside,
        "no_proxy": inside,
        **dict.fromkeys(REPLACE_ROOTS, bundle),
        **dict.fromkeys(ADD_ROOTS, own),
        "NODE_USE_ENV_PROXY": "1",
        **keys,
    }
    elsewhere = [
        name
        for name, value in environ.items()
        if name.endswith(BASES) and value and not _names_one_of(catalog, value)
    ]
    # A command inside another has placeholders.
    told = sorted(name for name in left_out if environ[name].strip() != PLACEHOLDER)
    return Variables(values, tuple(unset), tuple(told), tuple(sorted(elsewhere)))


def _names_one_of(catalog: Catalog, url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return catalog.by_host(host) is not None


def _key_is_meant(login: Login, environ: Mapping[str, str]) -> bool:
    """Whether a program would take a key of ``environ`` and not the login that may lie in its home."""
    held = {name for name in (*login.variables, *login.hidden_by) if environ.get(name, "").strip()}
    return bool(held) and held.isdisjoint(login.variables)


def _not_proxied(environ: Mapping[str, str], hosts: Sequence[str]) -> list[str]:
    """This machine, and what ``environ`` names, less what would have a provider called without the gateway."""
    named = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    own = [entry.strip() for entry in named.split(",")]
    kept = [entry for entry in own if entry and not any(_covers(entry, host) for host in hosts)]
    return list(dict.fromkeys([*LOCAL, *kept]))


def _covers(entry: str, host: str) -> bool:
    """Whether an entry of NO_PROXY, read as loosely as some program may read it, is for ``host``."""
    name = entry.lower().partition(":")[0].lstrip("*").lstrip(".")
    host = host.removeprefix("*.")
    return not name or host == name or host.endswith(f".{name}") or name.endswith(f".{host}")


def write_certs(ca: CertificateAuthority, environ: Mapping[str, str], directory: Path) -> None:
    """Writes ``ca.pem`` and ``bundle.pem``: ours, and beside it the roots that the machine trusts by ``environ``. Raises
    `OSError`."""
    from tollhouse import files
    from tollhouse.trust.bundle import write_bundle

    roots, more = (
        _other(environ, name, directory) for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
    )
    beside = files.read(more).decode().rstrip() + "\n" if more is not None else ""
    for name, text in (("bundle.pem", write_bundle(ca, roots)), ("ca.pem", ca.cert_pem)):
        # A program that reads it meanwhile has the old one.
        files.replace(directory / name, (text + beside).encode(), mode=0o644)


def _other(environ: Mapping[str, str], name: str, directory: Path) -> Path | None:
    """The file that the machine's own setting names; not one that was written here before."""
    path = Path(environ.get(name) or ".")
    return path if path.is_file() and path.resolve().parent != directory.resolve() else None
