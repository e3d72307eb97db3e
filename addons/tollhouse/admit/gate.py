"""The first gate: authority, path, identity, project, and the headers stripped to what may be sent."""

from __future__ import annotations

from collections.abc import Callable, Collection

from tollhouse.accounts.records import TokenDirectory
from tollhouse.accounts.remembered import Remembered
from tollhouse.admit.authority import judge
from tollhouse.admit.identity import choose_project, identify, presented
from tollhouse.admit.path import split_target, take_credentials
from tollhouse.admit.strip import strip
from tollhouse.call import Call
from tollhouse.denial import Decision, Refused
from tollhouse.ledger.store.client import LedgerUnavailable
from tollhouse.providers import Catalog


class Admit:
    """Decides who is calling and whether this request may be made at all. ``remembered`` may stand in for the directory
    while Redis is away."""

    name = "admit"

    def __init__(
        self,
        catalog: Catalog,
        directory: TokenDirectory,
        *,
        base_url_hosts: Collection[str],
        project_header: str,
        trace_header: str,
        clock: Callable[[], float],
        remembered: Remembered | None = None,
    ) -> None:
        self._catalog = catalog
        self._directory = directory
        self._remembered = remembered
        self._base_url_hosts = frozenset(host.lower() for host in base_url_hosts)
        self._project_header = project_header.lower()
        self._trace_header = trace_header.lower()
        self._ours = frozenset({self._project_header, self._trace_header})
        self._clock = clock

    async def __call__(self, call: Call, exchange: object) -> Decision:
        """Fills in provider, host, path, endpoint, identity, project and headers. Errors of the directory pass through.
        ``exchange`` is not looked at: nothing of the body has been read yet."""
        try:
            return await self._judge(call, self._directory)
        except LedgerUnavailable as error:
            if self._remembered is None or not await self._remembered.serves(error):
                raise
        decision = await self._judge(call, self._remembered)
        call.unsafe_fail_open = decision.allowed
        return decision

    async def _judge(self, call: Call, directory: TokenDirectory) -> Decision:
        head = call.head
        call.trace_id = (head.get(self._trace_header) or head.get("traceparent") or "")[:256]
        try:
            target = judge(head, self._catalog, self._base_url_hosts)
            call.provider, call.host = target.provider, target.host
            call.path, query = split_target(target.raw_path)
            call.query, query_credentials = take_credentials(query)
            call.headers = strip(head.headers, target.provider, self._ours)
            credential = presented(head, query_credentials)
            call.identity = await identify(credential, directory, self._clock)
            assert credential is not None
            project_id = choose_project(
                call.identity, head.get_all(self._project_header), credential.user, self._project_header
            )
            call.project = await directory.get_project(project_id)
            if call.project is None or call.project.tenant != call.identity.tenant:
                raise Refused("project_not_allowed", f"Project {project_id} does not exist (any more).")
            call.endpoint = target.provider.endpoint(head.method, call.path, call.host)
            if call.endpoint is None:
                raise Refused("path_not_allowed", f"{head.method!a} {call.path[:120]!a} is not open.")
        except Refused as refusal:
            return Decision.refuse(self.name, refusal.denial)
        return Decision.allow(self.name)
