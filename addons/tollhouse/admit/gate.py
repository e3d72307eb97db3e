"""The first gates, in their order: authority, path, identity and strip, project, operation. In the
line they have one name, ``admit``. They are several gates so that a refusal knows what the gates
before it have found out."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import ClassVar

from tollhouse.admit.authority import judge, plain_host
from tollhouse.admit.identifying import Accounts, Identifier
from tollhouse.admit.identity import choose_project
from tollhouse.admit.openness import closed, forbidden
from tollhouse.admit.own_login import let_through
from tollhouse.admit.path import split_target, take_credentials
from tollhouse.admit.strip import strip
from tollhouse.call import Addressed, Admitted, Aimed, Arrival, Billed, Identified, RequestHead
from tollhouse.denial import Denial, Refused
from tollhouse.families.operation import Matched
from tollhouse.headers import Headers
from tollhouse.parties import Project
from tollhouse.providers import Catalog, Provider

NAME = "admit"


class Locate:
    """Which provider is meant, by the one authority rule."""

    name: ClassVar = NAME
    gives: ClassVar = Addressed

    def __init__(self, catalog: Catalog, base_url_hosts: Collection[str]) -> None:
        self._catalog = catalog
        self._base_url_hosts = frozenset(map(plain_host, base_url_hosts))

    async def __call__(self, arrival: Arrival, exchange: object) -> Addressed:
        head = arrival.head
        target = head.decide(judge, head, self._catalog, self._base_url_hosts)
        return Addressed(arrival, target.provider, target.host, target.raw_path)


class Aim:
    """Which path and query will be sent. What an agent asks beside its calls is not there for anybody."""

    name: ClassVar = NAME
    gives: ClassVar = Aimed

    async def __call__(self, addressed: Addressed, exchange: object) -> Aimed:
        head = addressed.arrival.head
        path, query, credentials = head.decide(
            _aimed_at, head, addressed.provider, addressed.host, addressed.raw_path
        )
        return Aimed(addressed, path, query, credentials)


def _aimed_at(
    head: RequestHead, provider: Provider, host: str, raw_path: str
) -> tuple[str, str, tuple[str, ...]]:
    """The path and the query that will be sent, and the credentials that stood in the query. Raises `Refused`."""
    method = head.method
    socket = head.asks_for_websocket
    if socket and raw_path.startswith("//"):
        # google-genai puts its path behind a base URL that ends with a slash: `live.py`. It is sent with one.
        raw_path = raw_path[1:]
    path, query = split_target(raw_path, provider.family.encoded)
    query, credentials = take_credentials(query)
    if socket and (provider.family.match(method, path, query, host, socket=True) is None):
        # Before it is asked who calls: 426 sends a client to HTTP at once, and any other answer lets it try again.
        raise Refused("upgrade_required")
    if any(fnmatchcase(path, glob) for glob in provider.aside) and (
        provider.family.match(method, path, query, host) is None
    ):
        # Before it is asked who calls: an agent waits for its settings for 20 s while nobody can say.
        why = f"{method!a} {path[:120]!a} is not open."
        raise Refused.of(Denial("path_not_allowed", why, status_override=404))
    return path, query, tuple(credentials)


class Identify:
    """Who calls, by the first credential that is present; every credential is stripped from what will be sent."""

    name: ClassVar = NAME
    gives: ClassVar = Identified

    def __init__(self, identifier: Identifier, ours: frozenset[str]) -> None:
        """``ours`` are the names of our own headers, in lower case."""
        self._identifier = identifier
        self._ours = ours

    async def __call__(self, aimed: Aimed, exchange: object) -> Identified:
        head = aimed.addressed.arrival.head
        shown = head.decide(self._identifier.shown, head, aimed.credentials)
        headers = head.decide(_stripped, head.headers, aimed.addressed.provider, self._ours)
        identity, user, remembered = await self._identifier.identify(shown)
        return Identified(aimed, headers, identity, user, remembered)


def _stripped(headers: Headers, provider: Provider, ours: frozenset[str]) -> Headers:
    return tuple(strip(headers, provider, ours))


class Bill:
    """Which project pays."""

    name: ClassVar = NAME
    gives: ClassVar = Billed

    def __init__(self, accounts: Accounts, project_header: str) -> None:
        self._accounts = accounts
        self._header = project_header

    async def __call__(self, identified: Identified, exchange: object) -> Billed:
        named = identified.aimed.addressed.arrival.head.get_all(self._header)
        project_id = choose_project(identified.identity, named, identified.user, self._header)
        project, remembered = await self._accounts.ask(
            lambda directory: directory.get_project(project_id)
        )
        if project is None or project.tenant != identified.identity.tenant:
            raise Refused("project_not_allowed", f"Project {project_id} does not exist (any more).")
        return Billed(identified, project, remembered)


class Open:
    """Whether the method and the path are open."""

    name: ClassVar = NAME
    gives: ClassVar = Admitted

    def __init__(self, identifier: Identifier) -> None:
        self._identifier = identifier

    async def __call__(self, billed: Billed, exchange: object) -> Admitted:
        identified = billed.identified
        aimed = identified.aimed
        addressed = aimed.addressed
        provider, head = addressed.provider, addressed.arrival.head
        operation, objects = head.decide(
            opened,
            provider,
            head.method,
            aimed.path,
            aimed.query,
            addressed.host,
            socket=head.asks_for_websocket,
        )
        login = let_through(head, provider, billed.project, self._identifier.is_platforms)
        if provider.login_only and not login:
            raise Refused("path_not_allowed", _only_logins(provider, billed.project))
        return Admitted(
            addressed.arrival,
            provider,
            addressed.host,
            aimed.path,
            aimed.query,
            identified.headers,
            identified.identity,
            billed.project,
            operation,
            remembered=identified.remembered or billed.remembered,
            objects=objects,
            login=login,
        )


def _only_logins(provider: Provider, project: Project) -> str:
    if project.login == "pass":
        return f"{provider.name} takes a subscription's login alone, and the request carries none."
    return (
        f"{provider.name} takes a subscription's login alone, and project {project.id} lets none through "
        f"(`tollhouse project set {project.id} --login pass`)."
    )


def opened(
    provider: Provider, method: str, path: str, query: str, host: str, *, socket: bool = False
) -> Matched:
    """The operation that the method and the path name, for a WebSocket if it is to be a ``socket``. Raises `Refused` if it
    is not open."""
    matched = provider.family.match(method, path, query, host, socket=socket)
    if matched is None:
        raise closed(provider, method, path)
    if (refused := forbidden(matched.operation.cost, method, path)) is not None:
        raise refused
    if matched.operation.cost == "job" and not provider.allows(method, path):
        raise closed(provider, method, path, job=True)
    return matched


def admit_gates(
    catalog: Catalog,
    accounts: Accounts,
    identifier: Identifier,
    *,
    base_url_hosts: Collection[str],
    project_header: str,
    trace_header: str,
) -> tuple[Locate, Aim, Identify, Bill, Open]:
    project_header = project_header.lower()
    return (
        Locate(catalog, base_url_hosts),
        Aim(),
        Identify(identifier, frozenset({project_header, trace_header.lower()})),
        Bill(accounts, project_header),
        Open(identifier),
    )
