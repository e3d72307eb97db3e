"""What `tollhouse check` does: judge the file, then reach for everything that it names. Nothing is changed."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tollhouse.check.collector import check_collector
from tollhouse.check.fallback_prices import check_fallbacks
from tollhouse.check.finding import Clock, Finding, worst
from tollhouse.check.issuers import check_issuers
from tollhouse.check.named_files import check_ca, check_files
from tollhouse.check.opened_paths import check_openings
from tollhouse.check.own_addons import check_addons
from tollhouse.check.ports import check_ports
from tollhouse.check.receivers import check_receivers
from tollhouse.check.redis import check_redis
from tollhouse.check.subject_tokens import check_federation
from tollhouse.check.vault import check_vault
from tollhouse.config.load import Config, ConfigError, Problem, catalog, load_config, unenforced
from tollhouse.credential.environment import provider_keys_in

__all__ = ["Finding", "check", "worst"]


async def check(
    path: Path, *, environ: Mapping[str, str] = os.environ, clock: Clock = time.time
) -> list[Finding]:
    """Everything there is to say of the configuration at ``path``, in the order: file, environment, files and CA,
    stores, ports. A broken configuration ends it there. Raises nothing for what a person can mend.
    """
    try:
        config = load_config(path)
    except ConfigError as error:
        return [_problem(problem) for problem in error.problems]
    not_yet = [_problem(problem) for problem in unenforced(config)]
    findings = not_yet or [Finding("ok", f"{config.path} is sound.")]
    findings += [*_exposure(config), *_environment(config, environ), *check_openings(config)]
    findings += check_fallbacks(config)
    findings += [*check_ca(config, clock), *check_files(config, clock), *check_addons(config)]
    for reached in await asyncio.gather(
        check_redis(config, clock),
        check_vault(config),
        check_federation(config),
        check_ports(config),
        check_issuers(config),
        check_receivers(config),
        check_collector(config, environ),
    ):
        findings += reached
    return findings


def _problem(problem: Problem) -> Finding:
    where = f"{problem.file}: {problem.key}" if problem.key else str(problem.file)
    why, _, todo = problem.message.rpartition("; ")
    return Finding("error", where, why, todo) if why else Finding("error", where, problem.message)


def _environment(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    for name in provider_keys_in(environ, catalog(config)):
        yield Finding(
            "error",
            f"{name} is set in this environment.",
            "A key there is in every child process and crash dump, so the gateway refuses to start.",
            f"Unset {name}; keys belong into Vault.",
        )


def _exposure(config: Config) -> Iterator[Finding]:
    listen = config.listen
    if listen.admin is not None and not listen.admin.is_loopback:
        yield Finding(
            "warn",
            f"listen.admin {listen.admin} can be reached from other machines.",
            "It changes nothing and shows no secret, but it does show whether the gateway is ready and why not, how much "
            "is called, and the paths and fingerprints of the keys.",
            "Use 127.0.0.1, unless probes or Prometheus come from elsewhere, and let the network keep others away.",
        )
    if listen.base_url is not None and not listen.base_url.is_loopback:
        names = set(listen.base_url_hosts) - {"localhost", "127.0.0.1", "::1"}
        if not names:
            yield Finding(
                "warn",
                f"listen.base_url {listen.base_url} is meant for other machines, and nobody there can use it.",
                "base_url_hosts allows only names of this machine itself, and any other Host is refused.",
                "Add the name by which workloads call it to base_url_hosts.",
            )
    if config.redis.unsafe_fail_open:
        yield Finding(
            "warn",
            "redis.unsafe_fail_open lets calls leave while Redis is away.",
            "No limit of money, rate or concurrency holds then for identities proven in the last 5 minutes, and no revocation "
            "is seen: up to 10,000 calls of each gateway, charged when Redis is back.",
            "Remove it, unless calls that stop are worse than that.",
        )
    for name, entry in config.providers.items():
        if entry.unsafe_plaintext and not entry.allow_private:
            yield Finding(
                "warn",
                f"providers.{name} is called over plain http.",
                "Its address must be public, since allow_private is not set, so its key crosses the internet readable.",
                "Set allow_private = true if it is inside your network, else remove unsafe_plaintext.",
            )
