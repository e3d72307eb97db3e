"""What the commands ask of the records of calls, and how far their exports have come."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from tollhouse.accounts.directory import Directory
from tollhouse.config.values import Name
from tollhouse.control.refusal import Json
from tollhouse.ledger import names
from tollhouse.ledger.ledger import STREAM_LENGTH, Ledger
from tollhouse.ledger.streams import UNCHARGED_LENGTH, Found

Stream = Literal["calls", "uncharged"]
"""Records of calls: of those that were settled, and of those of which no settle told."""
MOST_RECORDS: Final = 1000
"""In one answer."""
Count = Annotated[int, Field(gt=0, le=MOST_RECORDS)]


class RecordsDesk:
    """Every method raises `OperationRefused`. Without a tenant it is about the calls that nobody could be charged with."""

    def __init__(self, directory: Directory, ledger: Ledger) -> None:
        self._directory = directory
        self._streams = ledger.streams

    async def tenants(self) -> list[str]:
        """Those of all projects and tokens, also of revoked ones. A token that sees all tenants is of none."""
        of_tokens = await self._directory.pages.tenants_of_tokens()
        return sorted(await self._directory.tenants() | of_tokens)

    async def page(
        self, tenant: str, stream: Stream, first: str = "-", last: str = "+", count: Count = 200
    ) -> Found:
        """`Streams.page`."""
        return await self._streams.page(_key(tenant, stream), first, last, count)

    async def kept(self, tenant: str, stream: Stream) -> Json:
        """``{"length", "most"}``: how many records there are, and about how many there can be."""
        most = STREAM_LENGTH if stream == "calls" else UNCHARGED_LENGTH
        return {"length": await self._streams.length(_key(tenant, stream)), "most": most}

    async def export_at(self, tenant: str, name: Name) -> str:
        """`Streams.export_at`."""
        return await self._streams.export_at(tenant, name)

    async def export_move(self, tenant: str, name: Name, before: str, after: str) -> bool:
        """`Streams.move_export`."""
        return await self._streams.move_export(tenant, name, before, after)

    async def held(self, tenant: str, call_id: str) -> Json | None:
        """`Streams.holding`."""
        return await self._streams.holding(tenant, call_id)


def _key(tenant: str, stream: Stream) -> str:
    return names.calls_key(tenant) if stream == "calls" else names.uncharged_key(tenant)
