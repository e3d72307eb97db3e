"""What a secret holds, told by its shape."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tollhouse.credential.fields import Contents, contents
from tollhouse.credential.lease import CredentialUnavailable, RawSecret


def value(found: object, field: str = "api_key") -> str:
    [key] = contents(RawSecret({"api_key": found, "other": "x"}, "1"), field, "secret/p").secrets
    return key.reveal()


@pytest.mark.parametrize("found", ["sk-1", "sk-1\n", "sk-1\r\n", "!~"])
def test_key(found: str) -> None:
    """Printable ASCII is a key; the line end that a file brings along is taken off."""
    assert value(found) == found.strip()


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ("", "empty"),
        ("\n", "empty"),
        ("HUSH HUSH", "space"),
        (" HUSH", "space"),
        ("HUSH\nx-evil: 1", "line end"),
        ("HUSH\x00", "printable"),
        ("HUSHé", "printable"),
        ("HUSH\x7f", "printable"),
        (12345678, "not a string"),
        ({"a": "HUSH"}, "no field 'api_key'"),
        ('{"a": "HUSH"', "begins like a JSON object"),
        ({"api_key": {"a": "HUSH"}}, "not a string"),
        ([{"access_key_id": "HUSH"}], "a list of objects"),
        ('[{"type": "service_account"}, {"type": "service_account"}]', "a list of objects"),
        ([], "a list of 0 keys"),
        (["HUSH"] * 101, "a list of 101 keys"),
        (["k", 12345678], "Number 2 of the keys of secret/p is not a string"),
        (["k", ""], "Number 2 .* is empty"),
        (["HUSH HUSH"], "space"),
        ([["HUSH"]], "not a string"),
        ("[HUSH", "begins like a list"),
        ('["HUSH HUSH"]', "space"),
        ("[" * 100_000, "begins like a list"),
        (True, "not a string"),
        (None, "no field 'api_key'"),
    ],
)
def test_no_key(found: object, why: str) -> None:
    """Anything else is refused, saying what is wrong and where, not what was there."""
    with pytest.raises(CredentialUnavailable, match=why) as caught:
        value(found)
    assert "secret/p" in caught.value.why
    assert "HUSH" not in caught.value.why
    assert "12345678" not in caught.value.why


@pytest.mark.parametrize(
    "found",
    [["sk-1", "sk-2\n", "sk-1"], '["sk-1", "sk-2"]', '["sk-1","sk-2\\n"]\n', ["sk-1", "sk-2"]],
)
def test_several_keys(found: object) -> None:
    """A list, or a string that is a list in JSON: its keys in order, each once."""
    keys = contents(RawSecret({"api_key": found}, "1"), "api_key", "secret/p").secrets
    assert [key.reveal() for key in keys] == ["sk-1", "sk-2"]


def test_field_missing_says_which() -> None:
    """The name of the wanted field is said; the names of the others are not."""
    with pytest.raises(CredentialUnavailable, match="'key'") as caught:
        value("x", field="key")
    assert "other" not in caught.value.why


AWS = {"access_key_id": "AKIAX", "secret_access_key": "wJalr/K7", "session_token": "FwoGZX=="}
ACCOUNT = {
    "type": "service_account",
    "client_email": "a@b.iam.gserviceaccount.com",
    "private_key": "-----BEGIN PRIVATE KEY-----\nHUSH\n-----END PRIVATE KEY-----\n",
    "token_uri": "https://oauth2.googleapis.com/token",
}
HEADERS = {"organization": "openai-organization", "project": "openai-project"}


def read(data: dict[str, object]) -> Contents:
    return contents(RawSecret(data, "1"), "api_key", "secret/p", HEADERS)


@pytest.mark.parametrize(
    "wrap", [dict, lambda f: {"api_key": f}, lambda f: {"api_key": " " + json.dumps(f) + "\n"}]
)
def test_an_aws_access_key(wrap: Callable[[dict[str, str]], dict[str, object]]) -> None:
    """As fields of the secret, or as an object in the one field; what leaves with a request is looked for in answers."""
    found = read(wrap(AWS))
    [secret] = found.secrets
    assert (found.kind, json.loads(secret.reveal())) == ("aws", AWS)
    assert secret.exposed == (AWS["session_token"], AWS["secret_access_key"])


@pytest.mark.parametrize("token", [None, ""])
def test_an_aws_access_key_that_lasts(token: str | None) -> None:
    """It has no session token; a line end that a file brought is no part of it."""
    [secret] = read(
        {**AWS, "secret_access_key": "wJalr/K7\n", "session_token": token, "note": "x"}
    ).secrets
    assert json.loads(secret.reveal()) == {
        "access_key_id": "AKIAX",
        "secret_access_key": "wJalr/K7",
    }
    assert secret.exposed == ("wJalr/K7",)


@pytest.mark.parametrize(
    "wrap", [dict, lambda f: {"api_key": f}, lambda f: {"api_key": json.dumps(f, indent=2)}]
)
def test_a_service_account(wrap: Callable[[dict[str, str]], dict[str, object]]) -> None:
    """Its file, however it was put in, is one and the same secret; its private key never leaves."""
    found = read(wrap(ACCOUNT))
    [secret] = found.secrets
    assert (found.kind, json.loads(secret.reveal()), secret.exposed) == ("google", ACCOUNT, ())
    assert secret == read(dict(reversed(ACCOUNT.items()))).secrets[0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (
            {"access_key_id": "AKIAX"},
            "'secret_access_key' of the secret at secret/p is not a string",
        ),
        (
            {"secret_access_key": "HUSH"},
            "'access_key_id' of the secret at secret/p is not a string",
        ),
        ({**AWS, "secret_access_key": "HU SH"}, "'secret_access_key' .* space"),
        ({**AWS, "session_token": 12345678}, "'session_token' .* not a string"),
        ({**AWS, **ACCOUNT}, "an AWS access key and a Google service account"),
        ({**ACCOUNT, "private_key": ""}, "no 'private_key'"),
        ({**ACCOUNT, "token_uri": None}, "no 'token_uri'"),
        ({"type": "authorized_user", "refresh_token": "HUSH"}, "no field 'api_key'"),
    ],
)
def test_half_of_it(data: dict[str, object], why: str) -> None:
    """Each says what is missing or wrong, and nothing of the rest."""
    with pytest.raises(CredentialUnavailable, match=why) as caught:
        read(data)
    assert "HUSH" not in caught.value.why
    assert "12345678" not in caught.value.why


def test_a_key_comes_before_the_rest() -> None:
    """A secret that has the configured field too is that key."""
    found = read({"api_key": "sk-1", **AWS})
    assert (found.kind, [secret.reveal() for secret in found.secrets]) == ("key", ["sk-1"])


@pytest.mark.parametrize("wrap", [dict, lambda f: {"api_key": json.dumps(f)}])
def test_whom_the_provider_charges(wrap: Callable[[dict[str, str]], dict[str, object]]) -> None:
    """Of the other fields those that mean a header are kept, and no others."""
    found = read(
        wrap({"api_key": "sk-1", "organization": "org-1\n", "project": " ", "note": "HUSH"})
    )
    assert (found.secrets[0].reveal(), found.headers) == (
        "sk-1",
        (("openai-organization", "org-1"),),
    )
    assert "HUSH" not in repr(found)


def test_raw_secret_hides_its_data() -> None:
    """What a read gives back does not show itself either."""
    assert "sk-1" not in repr(RawSecret({"api_key": "sk-1"}, "1"))
