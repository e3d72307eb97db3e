"""Who may have a tunnel passed on: an identity, and a project that the host is open to."""

from __future__ import annotations

from collections.abc import Callable

from tollhouse.admit.gate import Accounts
from tollhouse.admit.identity import choose_project, identify, presented
from tollhouse.call import Arrival, Passed
from tollhouse.companions import PassableHost
from tollhouse.denial import Refused


class TunnelJudge:
    """Of tunnels that are passed on. ``clock`` is seconds since the epoch."""

    def __init__(
        self, accounts: Accounts, *, project_header: str, clock: Callable[[], float]
    ) -> None:
        self._accounts = accounts
        self._header = project_header
        self._clock = clock

    async def __call__(self, arrival: Arrival, host: str, entry: PassableHost) -> Passed:
        """Raises `Refused`: without an identity, for one that is not or no longer valid, and for a project that the host
        is not open to."""
        credential = presented(arrival.head, ())
        if credential is None:
            raise Refused("identity_missing")
        identity, _ = await self._accounts.ask(
            lambda directory: identify(credential, directory, self._clock)
        )
        name = choose_project(
            identity, arrival.head.get_all(self._header), credential.user, self._header
        )
        project, _ = await self._accounts.ask(lambda directory: directory.get_project(name))
        if project is None or project.tenant != identity.tenant:
            raise Refused("project_not_allowed", f"Project {name} does not exist (any more).")
        if not entry.is_for(name):
            raise Refused("host_not_allowed", f"{host} is not open to project {name}.")
        return Passed(arrival, host, identity, project)
