"""`tollhouse check`: the endpoints that entries of [providers] open beside those of their families."""

from __future__ import annotations

from collections.abc import Iterator

from tollhouse.check.finding import Finding
from tollhouse.config.load import Config, catalog
from tollhouse.config.openings import Openings, known_as
from tollhouse.config.text import dotted
from tollhouse.families.opened import OpenedFamily
from tollhouse.ledger.limits import format_usd
from tollhouse.providers import Provider


def check_openings(config: Config) -> Iterator[Finding]:
    """Entries that the family has already, jobs that are let through, and objects that tenants
    share."""
    for provider in catalog(config).providers:
        yield from openings_of(provider)


def openings_of(provider: Provider) -> Iterator[Finding]:
    """The same of one provider."""
    family = provider.family
    if isinstance(family, OpenedFamily) and family.base is not None:
        openings = Openings(family.base, provider.allow, provider.unmetered, provider.job_hold)
        for key, index, opening in openings.listed():
            place = dotted(("providers", provider.name, key, index))
            costs = {operation.cost for operation in known_as(family.base, opening)}
            if "job" in costs and key == "allow":
                yield Finding(
                    "warn",
                    f"{place} lets jobs through: {opening.text}.",
                    f"For each job {format_usd(provider.job_hold or 0)} USD is held. That is charged where no answer shows "
                    "what the job has used (docs/later.md says where one does).",
                    "See that job_hold_usd is the most that a job of yours costs.",
                )
            elif costs & {"metered", "free"} and "*" not in opening.path:
                yield Finding(
                    "warn",
                    f"{place} has no effect: {opening.text}.",
                    f"The family {family.name} has this endpoint already, and its own rules hold.",
                    "Remove it.",
                )
            elif costs:
                yield Finding(
                    "warn",
                    f"{place} opens some paths only: {opening.text}.",
                    f"The family {family.name} has others of them already, and its own rules hold "
                    "for those.",
                    "Name the segments in place of *, if that is not what is meant.",
                )
    if provider.share_objects:
        yield Finding(
            "warn",
            f"providers.{provider.name}.share_objects is true.",
            "Each tenant that uses a common key may list, use and delete the objects of all others.",
            "Remove it, unless they are meant to.",
        )
