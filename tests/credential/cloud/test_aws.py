"""AWS signatures: against AWS's own published ones, botocore's client, and a verification written apart from both."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import sigv4

from tollhouse.credential.cloud import aws
from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.credential.secret import Secret

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//token=="
HOST = "bedrock-runtime.eu-west-1.amazonaws.com"
NOW = datetime(2026, 11, 23, 19, 30, 5, tzinfo=UTC)
ARN = "arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fabc123"


def a_secret(token: str = "") -> Secret:
    keys = {
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
        **({"session_token": token} if token else {}),
    }
    return Secret(
        json.dumps(keys, separators=(",", ":")), [value for value in (token, SECRET_KEY) if value]
    )


def sign(secret: Secret | None = None, **changed: Any) -> list[tuple[str, str]]:
    request: dict[str, Any] = {
        "region": "eu-west-1",
        "service": "bedrock",
        "method": "POST",
        "host": HOST,
        "path_and_query": "/model/m/converse",
        "headers": [("content-type", "application/json"), ("user-agent", "a/1"), ("accept", "*/*")],
        "body": b"{}",
        "now": NOW,
    }
    return aws.sign(secret or a_secret(), **{**request, **changed})


def refusal(
    added: list[tuple[str, str]],
    target: bytes = b"/model/m/converse",
    body: bytes = b"{}",
    **keys: Any,
) -> str:
    headers = [("Host", HOST), ("Content-Type", "application/json"), *added]
    given = {
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "region": "eu-west-1",
        "now": NOW,
        **keys,
    }
    return sigv4.problem("POST", target, headers, body, **given)


# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, the two examples that sign what we sign.
@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_published_signatures(query: str, wanted: str) -> None:
    """The signatures that AWS's documentation gives."""
    [(_, authorization), *_] = sign(
        method="GET",
        region="us-east-1",
        service="s3",
        host="examplebucket.s3.amazonaws.com",
        path_and_query=f"/?{query}",
        headers=[],
        body=b"",
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert authorization == (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={wanted}"
    )


# Of AWS's signing test suite (awslabs/aws-c-auth, tests/aws-signing-test-suite/v4).
SUITE = [
    ("/ሴ", [], "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ("//example//", [], "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
    (
        "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
        [],
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    ),
    ("/?ሴ=bar", [], "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
    (
        "/?Param2=value2&Param1=value1",
        [],
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    (
        "/",
        [
            (
                "X-Amz-Security-Token",
                "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
            )
        ],
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    ),
    (
        "/",
        [("My-Header1", " value1"), ("My-Header2", ' "a   b   c"')],
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
]


@pytest.mark.parametrize(("target", "headers", "wanted"), SUITE)
def test_the_verification_is_right(
    target: str, headers: list[tuple[str, str]], wanted: str
) -> None:
    """What the other tests verify with computes the signatures of AWS's test suite."""
    time = "20150830T123600Z"
    every = [("Host", "example.amazonaws.com"), ("X-Amz-Date", time), *headers]
    names = sorted(name.lower() for name, _ in every)
    request = sigv4.canonical(
        "GET", target.encode(), every, names, sigv4.hashlib.sha256(b"").hexdigest()
    )
    secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    assert sigv4.signature(secret_key, "20150830", "us-east-1", "service", time, request) == wanted


@pytest.mark.parametrize(
    "target",
    [
        "/model/anthropic.claude-3-5-sonnet-20240620-v1:0/converse",
        "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse-stream",
        f"/model/{ARN}/invoke",
        f"/model/{ARN.lower()}/invoke",
        "/model/a b/invoke".replace(" ", "%20"),
        "/foundation-models?byProvider=Anthropic&byInferenceType=ON_DEMAND",
        "/foundation-models?b=2&a=%7e~&a=1&c&a:b=(c)/d?e=f",
        "/",
    ],
)
@pytest.mark.parametrize("token", ["", TOKEN])
def test_verifies(target: str, token: str) -> None:
    """Each spelling of a path is signed as it goes out, with and without a session token."""
    assert (
        refusal(sign(a_secret(token), path_and_query=target), target.encode(), session_token=token)
        == ""
    )


@pytest.mark.parametrize(
    "model",
    [
        "anthropic.claude-3-5-sonnet-20240620-v1:0",
        "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/x.y:0",
    ],
)
def test_as_botocore_sends_it(model: str) -> None:
    """botocore's own client spells the path so, and ours of the same bytes verifies like its."""
    import botocore.awsrequest
    import botocore.session

    sent: list[Any] = []

    class Stop(Exception):
        pass

    def take(request: Any, **_: Any) -> None:
        sent.append(request)
        raise Stop

    session = botocore.session.Session()
    session.set_credentials(ACCESS_KEY, SECRET_KEY, TOKEN)
    client = session.create_client("bedrock-runtime", region_name="eu-west-1")
    client.meta.events.register("before-send.bedrock-runtime", take)
    with pytest.raises(Stop):
        client.converse(modelId=model, messages=[{"role": "user", "content": [{"text": "hello"}]}])
    [request] = sent
    target = request.url.removeprefix(f"https://{HOST}")
    assert "%3A" in target
    theirs = [
        (name, value.decode() if isinstance(value, bytes) else value)
        for name, value in request.headers.items()
    ]
    keys = {
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "session_token": TOKEN,
        "region": "eu-west-1",
    }
    body = request.body or b""
    every = [("Host", HOST), *theirs]
    assert sigv4.problem("POST", target.encode(), every, body, now=datetime.now(UTC), **keys) == ""
    bare = [pair for pair in theirs if pair[0].lower() not in aws.SIGNING_HEADERS]
    ours = [
        ("Host", HOST),
        *bare,
        *sign(a_secret(TOKEN), path_and_query=target, headers=bare, body=body),
    ]
    assert sigv4.problem("POST", target.encode(), ours, body, now=NOW, **keys) == ""


PATHS = st.text("abzAZ019-._~!$&'()*,;=:@/", min_size=0, max_size=40)
# What is not signed as it is: see `test_what_cannot_be_signed`.
NAMES = PATHS.map(lambda text: "n" + text.replace(";", "").replace("&", "&n"))
ESCAPES = st.sampled_from(["%20", "%2F", "%2f", "%3A", "%25", "%C3%A9", "%41", "%7E", ""])


@given(
    path=st.lists(st.tuples(PATHS, ESCAPES), max_size=4),
    query=st.lists(st.tuples(NAMES, ESCAPES), max_size=4),
    extra=st.lists(
        st.tuples(
            st.sampled_from(["X-Amz-A", "x-amz-b", "X-Other"]),
            st.text(
                st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=20
            ).filter(lambda text: "  " not in text),
        ),
        max_size=4,
    ),
    body=st.binary(max_size=100),
    token=st.sampled_from(["", TOKEN]),
)
def test_any_request(
    path: list[tuple[str, str]],
    query: list[tuple[str, str]],
    extra: list[tuple[str, str]],
    body: bytes,
    token: str,
) -> None:
    """Whatever URL characters, escapes, x-amz- headers (twice, with spaces) and body: AWS would take the signature."""
    target = (
        "/" + "".join(map("".join, path)) + ("?" if query else "") + "&".join(map("".join, query))
    )
    headers = [("content-type", "application/json"), *extra]
    added = sign(a_secret(token), path_and_query=target, headers=headers, body=body)
    every = [*extra, *added]
    assert refusal(every, target.encode(), body, session_token=token) == ""


@pytest.mark.parametrize("where", ["path", "body", "content-type", "x-amz-a", "secret"])
def test_what_is_changed_under_way_shows(where: str) -> None:
    """The signature is of the path, the body, the content type, every x-amz- header and the key."""
    added = sign(headers=[("content-type", "application/json"), ("x-amz-a", "1")])
    headers = [("Host", HOST), ("Content-Type", "application/json"), ("X-Amz-A", "1"), *added]
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "region": "eu-west-1", "now": NOW}
    target, body = b"/model/m/converse", b"{}"
    assert sigv4.problem("POST", target, headers, body, **keys) == ""  # type: ignore[arg-type]
    match where:
        case "path":
            target = b"/model/n/converse"
        case "body":
            body = b"[]"
        case "secret":
            keys["secret_key"] = "another"
        case _:
            headers = [(name, "2" if name.lower() == where else value) for name, value in headers]
    assert sigv4.problem("POST", target, headers, body, **keys).startswith("InvalidSignature")  # type: ignore[arg-type]


def test_what_hops_change_is_not_signed() -> None:
    """Of the workload's headers only the content type and x-amz-* are."""
    headers = [
        ("content-type", "a/b"),
        ("user-agent", "x"),
        ("accept-encoding", "identity"),
        ("x-amzn-trace-id", "1"),
    ]
    [(_, authorization), *_] = sign(headers=headers)
    assert "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date," in authorization


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"path_and_query": "/a b"}, "character"),
        ({"path_and_query": "/a#b"}, "character"),
        ({"path_and_query": "/é"}, "character"),
        ({"path_and_query": "a"}, "character"),
        ({"path_and_query": "/a?b=c+d"}, "%20 or %2B"),
        ({"path_and_query": "/a?b=%FF"}, "UTF-8"),
        ({"path_and_query": "/a?b=c;d=e"}, "`;`"),
        ({"path_and_query": "/a?b=c&&d=e"}, "without a name"),
        ({"path_and_query": "/a?=c"}, "without a name"),
        ({"path_and_query": "/a?b=c&"}, "without a name"),
        ({"headers": [("x-amz-note", "a  b")]}, "x-amz-note"),
        ({"headers": [("x-amz-note", "é")]}, "x-amz-note"),
        ({"headers": [("content-type", "a\tb")]}, "content-type"),
        ({"headers": [("Authorization", "x")]}, "authorization of its own"),
        ({"headers": [("X-Amz-Date", "x")]}, "x-amz-date of its own"),
    ],
)
def test_what_cannot_be_signed(changed: dict[str, Any], why: str) -> None:
    """Refused before anything leaves: a signature that AWS refuses would look like a key that it refuses."""
    with pytest.raises(aws.Unsignable) as caught:
        sign(**changed)
    assert why in caught.value.why


@pytest.mark.parametrize(
    "text",
    [
        "HUSH",
        "[" * 100_000,
        '["HUSH"]',
        '{"access_key_id":"AKIA"}',
        '{"access_key_id":"AKIA/x","secret_access_key":"HUSH"}',
        '{"access_key_id":"AKIA","secret_access_key":"HU SH"}',
        '{"access_key_id":"AKIA","secret_access_key":"HUSH","session_token":7}',
    ],
)
def test_no_keys(text: str) -> None:
    """Anything else than AWS keys signs nothing, and is not repeated."""
    with pytest.raises(CredentialUnavailable) as caught:
        sign(Secret(text))
    assert "HUSH" not in caught.value.why


def test_repr_hides() -> None:
    keys = a_secret(TOKEN).derived(aws.keys_of)
    assert keys is not None
    assert SECRET_KEY not in repr(keys)
    assert TOKEN not in repr(keys)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("bedrock-runtime.us-east-1.amazonaws.com", ("us-east-1", "bedrock")),
        ("bedrock-runtime.us-east-1.amazonaws.com:8443", ("us-east-1", "bedrock")),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", ("us-gov-west-1", "bedrock")),
        ("bedrock.eu-central-1.amazonaws.com", ("eu-central-1", "bedrock")),
        ("bedrock-fips.ca-central-1.amazonaws.com", ("ca-central-1", "bedrock")),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", ("cn-north-1", "bedrock")),
        ("bedrock-runtime.ap-southeast-2.api.aws", ("ap-southeast-2", "bedrock")),
        ("bedrock-mantle.eu-west-1.api.aws", ("eu-west-1", "bedrock-mantle")),
        ("vpce-0a1-b2.bedrock-runtime.us-east-1.vpce.amazonaws.com", ("us-east-1", "bedrock")),
        ("bedrock.amazonaws.com", None),
        ("bedrock-runtime.us-east-1.amazonaws.com.evil.test", None),
        ("s3.us-east-1.amazonaws.com", None),
        ("api.openai.com", None),
    ],
)
def test_scope(host: str, wanted: tuple[str, str] | None) -> None:
    """Region and service are the host's; a host that does not say them signs nothing."""
    assert aws.scope(host) == wanted


@pytest.mark.parametrize(
    ("error", "date", "off_s"),
    [
        ("InvalidSignatureException", "Mon, 23 Nov 2026 19:40:05 GMT", -600.0),
        (
            "InvalidSignatureException:http://internal.amazon.com/x/",
            "Mon, 23 Nov 2026 19:20:05 GMT",
            600.0,
        ),
        ("RequestExpired", "Mon, 23 Nov 2026 19:20:05 GMT", 600.0),
        ("InvalidSignatureException", "Mon, 23 Nov 2026 19:30:00 GMT", None),
        ("AccessDeniedException", "Mon, 23 Nov 2026 19:20:05 GMT", None),
        ("InvalidSignatureException", "yesterday", None),
        ("InvalidSignatureException", None, None),
    ],
)
def test_clock(error: str, date: str | None, off_s: float | None) -> None:
    """A refused signature and a Date far from ours: the clock is off; either alone says nothing."""
    assert aws.clock_off_s(error, date, NOW) == off_s


def test_a_clock_that_is_off_is_refused_as_such() -> None:
    """The time is what is passed in."""
    assert "expired" in refusal(sign(now=NOW - timedelta(minutes=6)))
    assert refusal(sign(now=NOW - timedelta(minutes=4))) == ""


def test_without_botocore() -> None:
    """The message says what to install; importing the module asks for nothing."""
    code = (
        "import sys; sys.modules['botocore'] = None\n"
        "from tollhouse.credential.cloud import aws\n"
        "from tollhouse.credential.lease import CredentialUnavailable\n"
        "try: aws.prepare()\n"
        "except CredentialUnavailable as error: print(error.why)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'tollhouse[bedrock]'" in done.stdout
