"""Which path is meant, and what is taken out of a query."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.accounts.token import mint
from tollhouse.admit.path import MAX_QUERY_PIECES, decoded, split_target, take_credentials
from tollhouse.denial import Refused

TOKEN = mint(bytes(32))


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1/models",
        "/v1/models/",
        "/v1/models/gpt-4o:ft@x,y;z=1",
        "/v1/%63hat",
        "/v1/a%20b",
        "/v1/..a/.b/c..",
        "/v1/models?a=b",
        "/v1/models?a=/../x//y",
        "/v1/models?",
        '/v1/models?a=[b]&c={d}|^`<>"',
        "/?a?b",
    ],
)
def test_unchanged(target: str) -> None:
    """A target that can be read in one way only is split at its first `?`, and nothing else."""
    path, query = split_target(target)
    assert target in (f"{path}?{query}", path)


@pytest.mark.parametrize(
    "target",
    [
        "",
        "v1",
        "//",
        "/v1//chat",
        "//evil.test/",
        "/.",
        "/..",
        "/./v1",
        "/v1/../v2",
        "/v1/..",
        "/v1/.",
        "/v1/%2e",
        "/v1/%2E%2e/x",
        "/v1/.%2e/x",
        "/v1%2fchat",
        "/v1%5Cchat",
        "/v1\\chat",
        "/v1%00",
        "/v1\x00",
        "/v1 chat",
        "/v1#x",
        "/v1%",
        "/v1%2",
        "/v1%zz",
        "/v1?a=%",
        "/v1?a=#b",
        "/v1?a= b",
        "/vé",
        "/v1?é",
        "/v1\r\nx: y",
        f"/v1/models/{TOKEN}",
        f"/v1/models/{TOKEN.replace('_', '%5f')}",
    ],
)
def test_refused(target: str) -> None:
    """What two parsers could read differently is 400."""
    with pytest.raises(Refused) as caught:
        split_target(target)
    assert caught.value.denial.code == "bad_request"


ARN = re.compile(r"/model/arn:(?:[a-z.]|%2[fF])+/converse")


def test_an_encoded_slash_where_a_family_has_it() -> None:
    """The path is not changed; without such a pattern, and where it does not fit, it is refused."""
    assert split_target("/model/arn:a%2Fb/converse?x=1", ARN) == (
        "/model/arn:a%2Fb/converse",
        "x=1",
    )
    for target in ("/model/arn:a%2Fb/converse", "/model/x%2Fb/converse"):
        with pytest.raises(Refused):
            split_target(target, None if "arn" in target else ARN)


@pytest.mark.parametrize("inside", ["%2F", "a%2F%2Fb", "a%2F.%2Fb", "a%2F..%2fb", "..%2Fb", "a%2F"])
def test_an_encoded_slash_makes_no_other_segments(inside: str) -> None:
    """What is an empty or a dot segment once it is decoded is refused, whatever the family says."""
    pattern = re.compile(r"/model/[a-z.%2fF]*/converse")
    with pytest.raises(Refused) as caught:
        split_target(f"/model/{inside}/converse", pattern)
    assert caught.value.denial.code == "bad_request"


@pytest.mark.parametrize(
    ("query", "left", "taken"),
    [
        ("", "", []),
        ("a=b&c", "a=b&c", []),
        ("&&a=%7E&", "&&a=%7E&", []),
        ("key=s", "", ["s"]),
        ("a=b&key=s&c=d", "a=b&c=d", ["s"]),
        ("KEY=s&Api-Key=t", "", ["s", "t"]),
        ("%6bey=a%20b+c", "", ["a b c"]),
        ("$key=s", "", ["s"]),
        ("+key+=s", "", ["s"]),
        ("key", "", [""]),
        ("access_token=s&oauth_token=t&authorization=u", "", ["s", "t", "u"]),
        ("keys=s&monkey=t", "keys=s&monkey=t", []),
        ("x-api-key=s&X-Goog-Api-Key=t&bearer_token=u", "", ["s", "t", "u"]),
        ("AWSAccessKeyId=s&Signature=t&a=b", "a=b", ["s", "t"]),
        (
            "X-Amz-Credential=s&x-amz-signature=t&x%2Damz-security-token=u&a=b",
            "a=b",
            ["s", "t", "u"],
        ),
        (
            "X-Amz-Algorithm=a&X-Amz-Date=b&X-Amz-Expires=c&X-Amz-SignedHeaders=d&x-amzn=e",
            "x-amzn=e",
            [],
        ),
        ("quotaUser=a&userProject=b&$userProject=c&x=1", "x=1", []),
        ("fields=a&$fields=b&callback=c&x=1", "x=1", []),
        (
            "$httpHeaders=Authorization:Bearer%20x%0D%0A&%24httpmethod=POST&$ct=a/b&$req=c&ct=1",
            "ct=1",
            [],
        ),
        ("alt=sse&alt=json&alt=proto&alt=media&$alt=proto&alt=", "alt=sse&alt=json", []),
        (f"a={TOKEN}&b=1", "b=1", []),
        (f"{TOKEN}&b=1", "b=1", []),
        ("a=1;b=2", "a=1;b=2", []),
    ],
)
def test_take_credentials(query: str, left: str, taken: list[str]) -> None:
    """Credentials, payers and what would hide usage are taken out; the rest stays as it was sent."""
    assert take_credentials(query) == (left, taken)


@pytest.mark.parametrize("query", ["a=b;key=s", "a=b;X-Amz-Signature=s", "a;KEY=s", ";%6bey=s;"])
def test_a_credential_behind_a_semicolon(query: str) -> None:
    """Refused: a server that takes `;` for `&` would see a parameter that we do not."""
    with pytest.raises(Refused):
        take_credentials(query)


@given(st.text(alphabet="abk&=;ey%6$", max_size=40))
def test_no_credential_is_left(query: str) -> None:
    """Whatever was left has nothing more to be taken."""
    try:
        left, _ = take_credentials(query)
    except Refused:
        return
    assert take_credentials(left) == (left, [])


@pytest.mark.parametrize("separator", ["&", ";"])
def test_the_pieces_of_a_query_are_bounded(separator: str) -> None:
    """Each piece costs work before it is known who asks: 256 are read, 257 are refused before one
    is."""
    most = separator.join(["%41"] * MAX_QUERY_PIECES)
    assert split_target(f"/v1/models?{most}") == ("/v1/models", most)
    with pytest.raises(Refused) as refused:
        split_target(f"/v1/models?{most}{separator}")
    assert (refused.value.denial.code, refused.value.denial.why) == (
        "bad_request",
        "The query has 257 pieces, the limit is 256.",
    )


@given(
    st.lists(
        st.sampled_from(
            [
                "%41",
                "%C3%A9",
                "%ff",
                "%0A",
                "%3D",
                "=",
                "+",
                "_",
                "a",
                "?",
                ";",
                "%25",
                "%2541",
                "%00",
            ]
        )
    )
)
def test_decoded(pieces: list[str]) -> None:
    """The same as the standard library's, which is slower."""
    text = "".join(pieces)
    assert decoded(text) == unquote_plus(text)
