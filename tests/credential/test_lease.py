"""Which values can be a key."""

from __future__ import annotations

import pytest

from tollhouse.credential.lease import CredentialUnavailable, RawSecret, check_keys


def value(found: object, field: str = "api_key") -> str:
    [key] = check_keys(RawSecret({"api_key": found, "other": "x"}, "1"), field, "secret/p")
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
        ({"a": "HUSH"}, "not a string"),
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
    "found", [["sk-1", "sk-2\n", "sk-1"], '["sk-1", "sk-2"]', '["sk-1","sk-2\\n"]\n', ["sk-1", "sk-2"]]
)
def test_several_keys(found: object) -> None:
    """A list, or a string that is a list in JSON: its keys in order, each once."""
    keys = check_keys(RawSecret({"api_key": found}, "1"), "api_key", "secret/p")
    assert [key.reveal() for key in keys] == ["sk-1", "sk-2"]


def test_field_missing_says_which() -> None:
    """The name of the wanted field is said; the names of the others are not."""
    with pytest.raises(CredentialUnavailable, match="'key'") as caught:
        value("x", field="key")
    assert "other" not in caught.value.why


def test_raw_secret_hides_its_data() -> None:
    """What a read gives back does not show itself either."""
    assert "sk-1" not in repr(RawSecret({"api_key": "sk-1"}, "1"))
