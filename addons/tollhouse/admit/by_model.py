"""The gate of the base URL behind which a call whose path names no provider goes by its model."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import ClassVar, Final

from tollhouse.admit.authority import base_host
from tollhouse.admit.reading import ReadBody
from tollhouse.call import Admitted, Requested
from tollhouse.denial import Refused
from tollhouse.providers import DEFAULT, Catalog, Provider

_PREFIX: Final = "/v1"
"""OpenAI's, which SDKs write behind the base URL."""


class ByModel:
    """``routes`` are globs of model names and the names of providers; the first that fits counts.
    Behind them stand the globs of the providers themselves. A model that none of them fits goes to
    `DEFAULT`. Upper and lower case count."""

    name: ClassVar = "routes"
    gives: ClassVar = Requested

    def __init__(self, catalog: Catalog, routes: Mapping[str, str], read: ReadBody) -> None:
        self._read = read
        own = ((glob, catalog.by_name(name)) for glob, name in routes.items())
        known = ((glob, entry) for entry in catalog.providers for glob in entry.model_globs)
        self._routes = tuple(
            (glob, provider) for glob, provider in (*own, *known) if provider is not None
        )

    async def __call__(self, requested: Requested, exchange: object) -> Requested:
        """Refuses 403 where the provider does not speak OpenAI's API, or not for this path."""
        admitted = requested.admitted
        head = admitted.arrival.head
        if (
            head.listener != "base_url"
            or admitted.provider.name != DEFAULT.name
            or not head.target.startswith(f"{_PREFIX}/")
            or requested.body is None
            or admitted.operation.socket
        ):
            return requested
        model = requested.asked.model
        provider = next((to for glob, to in self._routes if fnmatchcase(model, glob)), None)
        if provider is None or provider.name == admitted.provider.name:
            return requested
        return await self._read.again(requested, _sent_to(provider, admitted, model))


def _sent_to(provider: Provider, admitted: Admitted, model: str) -> Admitted:
    path = f"{provider.openai_path}{admitted.path.removeprefix(_PREFIX)}"
    host = base_host(provider)
    matched = None
    if provider.openai_path is not None:
        matched = provider.family.match(admitted.arrival.head.method, path, admitted.query, host)
    # What else there is at this provider was not asked of its gate.
    if matched is None or not matched.operation.metered:
        raise Refused(
            "path_not_allowed",
            f"The model {model[:80]!a} is of {provider.name}, which has no {admitted.path} in "
            f"OpenAI's format: call it as /{provider.name}/..., by its own API.",
        )
    operation, objects = matched
    return admitted._replace(
        provider=provider, host=host, path=path, operation=operation, objects=objects
    )
