"""Who may have a tunnel passed on: an identity, and a project that the host is open to."""

from __future__ import annotations

from tollhouse.admit.identifying import Accounts, Identifier
from tollhouse.admit.identity import choose_project
from tollhouse.call import Arrival, Passed
from tollhouse.companions import PassableHost
from tollhouse.denial import Refused


class TunnelJudge:
    """Of tunnels that are passed on."""

    def __init__(self, accounts: Accounts, identifier: Identifier, *, project_header: str) -> None:
        self._accounts = accounts
        self._identifier = identifier
        self._header = project_header

    async def __call__(self, arrival: Arrival, host: str, entry: PassableHost) -> Passed:
        """Raises `Refused`: without an identity, for one that is not or no longer valid, and for a project that the host
        is not open to."""
        shown = self._identifier.shown(arrival.head, ())
        identity, user, _ = await self._identifier.identify(shown)
        name = choose_project(identity, arrival.head.get_all(self._header), user, self._header)
        project, _ = await self._accounts.ask(lambda directory: directory.get_project(name))
        if project is None or project.tenant != identity.tenant:
            raise Refused("project_not_allowed", f"Project {name} does not exist (any more).")
        if not entry.is_for(name):
            raise Refused("host_not_allowed", f"{host} is not open to project {name}.")
        return Passed(arrival, host, identity, project)
