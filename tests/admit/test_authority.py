"""The one authority rule, as truth tables."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.calls import HOST, models_head
from tests.support.values import replace

from tollhouse.admit.authority import (
    admit_connect,
    admit_sni,
    judge,
    named_host,
    normalise_host,
    plain_host,
    split_authority,
)
from tollhouse.call import RequestHead
from tollhouse.companions import Passable
from tollhouse.denial import Refused
from tollhouse.providers import BUILT_IN, Catalog

CATALOG = Catalog(
    tuple(
        replace(p, port=8443, hosts=("llm.test",)) if p.name == "mistral" else p for p in BUILT_IN
    ),
)
BASE_URL_HOSTS = frozenset({"localhost", "127.0.0.1"})


def refusal(request: RequestHead) -> str:
    """The code that a request is refused with, or its provider and host."""
    try:
        target = judge(request, CATALOG, BASE_URL_HOSTS)
    except Refused as refused:
        return refused.denial.code
    return f"{target.provider.name} {target.host} {target.raw_path}"


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("api.openai.com", HOST),
        ("API.OpenAI.COM", HOST),
        ("api.openai.com.", HOST),
        ("ａｐｉ.openai.com", HOST),
        ("api。openai．com", HOST),
        ("bücher.test", "xn--bcher-kva.test"),
        ("xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("localhost", "localhost"),
        ("a-b.test", "a-b.test"),
        ("", None),
        (".", None),
        ("..", None),
        ("api.openai.com..", None),
        (".api.openai.com", None),
        ("api..openai.com", None),
        ("-api.test", None),
        ("api-.test", None),
        ("api_x.test", None),
        ("a" * 64 + ".test", None),
        (".".join(["a" * 60] * 5), None),
        ("127.0.0.1", None),
        ("127.0.0.1.", None),
        ("127.1", None),
        ("2130706433", None),
        ("0x7f000001", None),
        ("0x7f.0.0.1", None),
        ("0177.0.0.01", None),
        ("api.openai.com.1", None),
        ("a.0x", None),
        ("::1", None),
        ("[::1]", None),
        ("①②⑦.0.0.1", None),
        ("a b", None),
        ("a\x00b", None),
        ("a%00b", None),
        ("a/b", None),
        ("a\\b", None),
        ("a@b", None),
        ("a#b", None),
        ("a?b", None),
        ("a:b", None),
        ("api.openai.com\n", None),
        ("\ud800", None),
    ],
)
def test_normalise_host(host: str, plain: str | None) -> None:
    """One spelling for a name, None for what is none."""
    assert normalise_host(host) == plain


@given(st.text(max_size=80))
def test_normalising_twice_changes_nothing(host: str) -> None:
    """Whatever comes out is in the one spelling already, and nothing raises."""
    plain = normalise_host(host)
    assert plain is None or (normalise_host(plain) == plain and plain.isascii())


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        ("api.openai.com", HOST, None),
        ("api.openai.com:443", HOST, 443),
        ("api.openai.com:0443", HOST, 443),
        ("api.openai.com:65535", HOST, 65535),
        ("api.openai.com:65536", None, None),
        ("api.openai.com:65979", None, None),
        ("api.openai.com:0", None, None),
        ("api.openai.com:", None, None),
        ("api.openai.com:+443", None, None),
        ("api.openai.com: 443", None, None),
        ("api.openai.com:4४३", None, None),
        ("api.openai.com:443:443", None, None),
        ("[::1]:443", None, None),
        ("user@api.openai.com:443", None, 443),
        (":443", None, 443),
        ("", None, None),
    ],
)
def test_split_authority(authority: str, host: str | None, port: int | None) -> None:
    """Host and port, or nothing at all."""
    assert split_authority(authority) == (host, port)


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        ("api.openai.com:443", HOST),
        ("API.OPENAI.COM.:443", HOST),
        ("llm.test:8443", "llm.test"),
        ("llm.test:443", "port_not_allowed"),
        ("api.openai.com:8443", "port_not_allowed"),
        ("api.openai.com", "port_not_allowed"),
        ("evil.test:443", "host_not_allowed"),
        ("127.0.0.1:443", "host_not_allowed"),
        ("api.openai.com@evil.test:443", "host_not_allowed"),
        ("", "host_not_allowed"),
    ],
)
def test_admit_connect(target: str, verdict: str) -> None:
    """A provider's host on the provider's own port."""
    try:
        found, _ = admit_connect(target, CATALOG, Passable())
    except Refused as refused:
        found = refused.denial.code
    assert found == verdict


@pytest.mark.parametrize(
    ("sni", "connect", "host"),
    [
        (HOST, HOST, HOST),
        ("API.OPENAI.COM.", HOST, HOST),
        (HOST, None, HOST),
        ("us.api.openai.com", HOST, None),
        ("evil.test", HOST, None),
        ("evil.test", None, None),
        (None, HOST, None),
        ("", HOST, None),
        (None, None, None),
    ],
)
def test_admit_sni(sni: str | None, connect: str | None, host: str | None) -> None:
    """The SNI is a provider's, and in a tunnel the tunnel's."""
    assert admit_sni(sni, connect, CATALOG) == host


GOOD = f"openai {HOST} /v1/models"


@pytest.mark.parametrize(
    ("request_head", "verdict"),
    [
        (models_head(), GOOD),
        (models_head(("host", "API.OPENAI.COM.:443")), GOOD),
        (models_head(absolute_authority=HOST), GOOD),
        (models_head(no_host=True, authority=HOST, http_version="2"), GOOD),
        (models_head(authority=HOST, http_version="2"), GOOD),
        (models_head(sni="API.openai.com"), GOOD),
        (models_head(no_host=True), "bad_request"),
        (models_head(("host", HOST), ("host", HOST)), "bad_request"),
        (models_head(method="CONNECT"), "path_not_allowed"),
        (models_head(target="*"), "bad_request"),
        (models_head(target="v1/models"), "bad_request"),
        (models_head(("host", "evil.test")), "authority_mismatch"),
        (models_head(("host", f"{HOST}:80")), "authority_mismatch"),
        (models_head(("host", f"x@{HOST}")), "authority_mismatch"),
        (models_head(("host", "")), "authority_mismatch"),
        (models_head(absolute_authority="evil.test"), "authority_mismatch"),
        (models_head(absolute_authority=HOST, scheme="http"), "authority_mismatch"),
        (models_head(authority="evil.test", http_version="2"), "authority_mismatch"),
        (
            models_head(("host", "evil.test"), authority=HOST, http_version="2"),
            "authority_mismatch",
        ),
        (models_head(authority=HOST, http_version="2", scheme="http"), "authority_mismatch"),
        (models_head(sni=None), "authority_mismatch"),
        (models_head(sni="us.api.openai.com"), "authority_mismatch"),
        (models_head(connect_host="evil.test"), "host_not_allowed"),
        (models_head(connect_host=None), "plain_http"),
        (models_head(("host", "evil.test"), connect_host=None), "host_not_allowed"),
        (models_head(connect_host=None, absolute_authority="evil.test"), "host_not_allowed"),
        (models_head(listener="transparent", connect_host=None), GOOD),
        (
            models_head(("host", "evil.test"), listener="transparent", connect_host=None),
            "authority_mismatch",
        ),
        (models_head(listener="transparent", connect_host=None, sni=None), "host_not_allowed"),
        (
            models_head(listener="transparent", connect_host=None, sni="evil.test"),
            "host_not_allowed",
        ),
    ],
)
def test_judge(request_head: RequestHead, verdict: str) -> None:
    """Everything that names a host names the same one, and it is a provider's."""
    assert refusal(request_head) == verdict


def base_url(host: str, target: str = "/v1/models", **changed: object) -> RequestHead:
    return models_head(
        ("host", host), listener="base_url", connect_host=None, sni=None, target=target, **changed
    )


@pytest.mark.parametrize(
    ("request_head", "verdict"),
    [
        (base_url("localhost:8000"), GOOD),
        (base_url("LOCALHOST"), GOOD),
        (base_url("127.0.0.1:8000"), GOOD),
        (base_url("localhost", "/openai/v1/models"), GOOD),
        (base_url("localhost", "/openai/v1/models?a=b"), f"openai {HOST} /v1/models?a=b"),
        (
            base_url("localhost", "/anthropic/v1/messages"),
            "anthropic api.anthropic.com /v1/messages",
        ),
        (base_url("localhost", "/openai"), f"openai {HOST} /"),
        (
            base_url("localhost", "/v1/messages?beta=true"),
            "anthropic api.anthropic.com /v1/messages?beta=true",
        ),
        (
            base_url("localhost", "/v1/messages/count_tokens"),
            "anthropic api.anthropic.com /v1/messages/count_tokens",
        ),
        (base_url("localhost", "/v1/messagesx"), f"openai {HOST} /v1/messagesx"),
        (
            base_url("localhost", "/v1beta/models/m:generateContent"),
            "gemini generativelanguage.googleapis.com /v1beta/models/m:generateContent",
        ),
        (base_url("localhost", "/OpenAI/v1/models"), "path_not_allowed"),
        (base_url("localhost", "/nobody/v1/models"), "path_not_allowed"),
        (base_url("localhost", "/"), "path_not_allowed"),
        (base_url("localhost", "//v1/models"), "path_not_allowed"),
        (base_url("localhost", "/azure/openai/v1/models"), "host_not_allowed"),
        (base_url("evil.test"), "authority_mismatch"),
        (base_url("[::1]"), "authority_mismatch"),
        (base_url("[::1]:8000"), "authority_mismatch"),
        (base_url("[::ffff:127.0.0.1]:8000"), "authority_mismatch"),
        (base_url("127.1:8000"), "authority_mismatch"),
        (base_url("127.0.0.2:8000"), "authority_mismatch"),
        (base_url("localhost:8000:1"), "authority_mismatch"),
        (base_url("[localhost]"), "authority_mismatch"),
        (base_url("localhost.evil.test"), "authority_mismatch"),
        (base_url("localhost@evil.test"), "authority_mismatch"),
        (base_url(HOST), "authority_mismatch"),
        (base_url(""), "authority_mismatch"),
        (base_url("localhost", absolute_authority="evil.test"), "authority_mismatch"),
        (base_url("localhost", authority="evil.test"), "authority_mismatch"),
    ],
)
def test_judge_base_url(request_head: RequestHead, verdict: str) -> None:
    """The listener's own names only, and the path says which provider."""
    assert refusal(request_head) == verdict


@given(st.text(max_size=300))
def test_a_refusal_shows_little(name: str) -> None:
    """What the network said is cut and escaped in the message."""
    message = ""
    try:
        judge(models_head(("host", name)), CATALOG, BASE_URL_HOSTS)
    except Refused as refused:
        message = refused.denial.message
    assert message.isprintable()
    assert len(message) < 1500


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("[::1]", "::1"),
        ("[::1]:8000", "::1"),
        ("[0:0:0:0:0:0:0:1]:8000", "::1"),
        # Python 3.12 writes the mapped part in hex, 3.13 dotted.
        ("[::FFFF:127.0.0.1]", str(ip_address("::ffff:127.0.0.1"))),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("127.1:8000", "127.1"),
        ("GW.internal:8000", "gw.internal"),
        ("gw", "gw"),
        ("gw:", "gw"),
        ("::1", None),
        ("::1:8000", None),
        ("[::1", None),
        ("[::1]8000", None),
        ("a@b", None),
        ("a b", None),
        ("gw:http", None),
        ("", None),
    ],
)
def test_the_host_that_a_listener_is_called_by(authority: str, host: str | None) -> None:
    """One spelling for each address; what is no host and port is nobody's."""
    assert named_host(authority) == host


@pytest.mark.parametrize("listed", ["::1", "[::1]", "0:0:0:0:0:0:0:1"])
def test_an_ipv6_host_that_is_listed(listed: str) -> None:
    """Any spelling of a listed address is that address."""
    assert judge(base_url("[0::1]:8000"), CATALOG, {plain_host(listed)}).host == HOST
