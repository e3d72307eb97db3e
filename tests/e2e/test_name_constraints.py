"""The CA's name constraints through the running gateway, as openssl judges them: whoever has to be answered inside TLS is covered,
also where that is an agent's companion, and nobody else is ever answered."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from cryptography import x509
from tests.support.attack import Attacked, watched
from tests.support.inproc import PROJECT, Inside, open_inside
from tests.support.requires import program

from tollhouse.companions import AGENTS
from tollhouse.trust.ca import CaError, CertificateAuthority
from tollhouse.trust.leaf import LeafStore

pytestmark = pytest.mark.requires("openssl")
CODEX = "chatgpt.com"
"""Codex asks it for what is no call of a model's. Refused at CONNECT it waits for 9 s, inside TLS not at all."""
ASKED = f"GET /backend-api/plugins HTTP/1.1\r\nHost: {CODEX}\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def redirected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    settings = {
        "listen": {"transparent": "127.0.0.1:0"},
        f"projects.{PROJECT}": {"limits": ["10 usd/day"]},
    }
    with open_inside(tmp_path_factory.mktemp("constraints"), settings) as inside:
        yield inside


@pytest.fixture
def attacked(redirected: Inside, caplog: pytest.LogCaptureFixture) -> Iterator[Attacked]:
    yield from watched(redirected, caplog)


def s_client(attacked: Attacked, way: str, host: str) -> subprocess.CompletedProcess[str]:
    """A request for ``host``, whose certificate has to be that host's and within the CA's constraints."""
    addresses = attacked.inside.gateway.addresses
    to = {
        "transparent": ("-connect", addresses["transparent"]),
        "tunnel": ("-proxy", addresses["proxy"], "-connect", f"{host}:443"),
    }[way]
    trust = ("-CAfile", str(attacked.inside.ca_file), "-no-CApath", "-no-CAstore")
    strict = ("-verify_return_error", "-verify_hostname", host, "-x509_strict")
    return subprocess.run(
        [program("openssl"), "s_client", *to, "-servername", host, *trust, *strict, "-ign_eof"],
        input=ASKED,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("way", ["tunnel", "transparent"])
def test_a_companion_that_is_refused_inside_tls(attacked: Attacked, way: str) -> None:
    """Its leaf is within the constraints, and the refusal is read."""
    done = s_client(attacked, way, CODEX)
    assert (done.returncode, "Verify return code: 0 (ok)" in done.stdout) == (0, True)
    assert "HTTP/1.1 404 " in done.stdout
    assert "x-tollhouse-reason: path_not_allowed" in done.stdout
    [line] = attacked.lines(1)
    assert (line["host"], line["reason"], line["status"]) == (CODEX, "path_not_allowed", 404)
    attacked.nothing_left()


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.agent)
def test_a_companion_that_is_none_of_the_cas(attacked: Attacked, agent: object) -> None:
    """What passes unread, or not at all, is not covered: no leaf is made of it, and none is shown."""
    assert isinstance(agent, type(AGENTS[0]))
    ca = CertificateAuthority.load(
        attacked.inside.ca_file, attacked.inside.ca_file.with_name("ca-key.pem")
    )
    hosts = (*agent.of("all"), "example.com", f"{CODEX}.example.com")
    for host in hosts:
        assert not ca.covers(host)
        with pytest.raises(CaError):
            LeafStore(ca).context(host)
    done = s_client(attacked, "transparent", hosts[0])
    assert done.returncode != 0
    assert "no peer certificate available" in done.stdout
    assert attacked.tls_refused()["host"] == hosts[0]


def test_the_constraints_are_the_catalogs(attacked: Attacked) -> None:
    """Critical, of every host that is answered, and of no address."""
    certificate = x509.load_pem_x509_certificate(attacked.inside.ca_file.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    permitted = {name.value for name in found.value.permitted_subtrees or ()}
    hosts = {host for one in attacked.inside.gateway.catalog.providers for host in one.hosts}
    assert found.critical
    assert permitted == {host.removeprefix("*.") for host in hosts}
    assert CODEX in permitted
    assert len(found.value.excluded_subtrees or ()) == 2
    attacked.lines(0)
