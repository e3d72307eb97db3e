"""A Secret shows itself to nobody."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import calls

from tollhouse.credential.lease import Lease
from tollhouse.credential.secret import Secret

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.fixture
def lease() -> Lease:
    return calls.lease(KEY, "3")


def test_text_forms_are_redacted(lease: Lease, caplog: pytest.LogCaptureFixture) -> None:
    """repr, str, format, %-format and a log record of it or of what holds it are without the key."""
    secret = lease.secret
    with caplog.at_level(logging.INFO):
        logging.getLogger("t").info("%s %r %s", secret, secret, lease)
    forms = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>80}",
        "%s %r" % (secret, secret),  # noqa: UP031
        repr([lease]),
    ]
    for form in [*forms, caplog.text, str(vars(caplog.records[0]))]:
        assert KEY not in form
        assert secret.fingerprint in form


def test_traceback_is_redacted(lease: Lease) -> None:
    """A traceback that captures locals shows no key."""
    try:
        raise ValueError(lease.secret)
    except ValueError as error:
        shown = "".join(
            traceback.TracebackException.from_exception(error, capture_locals=True).format()
        )
    assert KEY not in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_not_pickled(lease: Lease, protocol: int) -> None:
    """No pickle protocol takes it."""
    for thing in (lease.secret, lease):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(thing, protocol)


def test_not_in_json(lease: Lease) -> None:
    """json refuses it, also as a part of `dataclasses.asdict`."""
    with pytest.raises(TypeError):
        json.dumps(dataclasses.asdict(lease))
    with pytest.raises(TypeError):
        json.dumps(lease.secret)


def test_one_object(lease: Lease) -> None:
    """Its copies are itself."""
    assert copy.copy(lease.secret) is lease.secret
    assert copy.deepcopy([lease])[0].secret is lease.secret
    assert dataclasses.asdict(lease)["secret"] is lease.secret


def test_does_not_change(lease: Lease) -> None:
    """Nothing can be set on it or taken from it, and it has no __dict__."""
    for name in (*Secret.__slots__, "note"):
        with pytest.raises(AttributeError):
            setattr(lease.secret, name, "other")
        with pytest.raises(AttributeError):
            delattr(lease.secret, name)
    assert not hasattr(lease.secret, "__dict__")


def test_reveal_gives_the_key(lease: Lease) -> None:
    """reveal is the one way to the value."""
    assert lease.secret.reveal() == KEY


@given(st.text(), st.text())
def test_equality_is_of_the_value(one: str, other: str) -> None:
    """Equal values make equal secrets, with the same hash and fingerprint; nothing else is equal."""
    assert (Secret(one) == Secret(other)) is (one == other)
    assert Secret(one) == Secret(one)
    assert hash(Secret(one)) == hash(Secret(one))
    assert Secret(one) != one


def test_fingerprint_is_the_same_everywhere() -> None:
    """Eight hexadecimal digits that do not depend on the process: of sha256sum over the fixed prefix and the key."""
    assert Secret("sk-1").fingerprint == "751edfb6"


def test_what_leaves_with_a_request() -> None:
    """The key itself unless something else is said; what is made of it is made once, beside what is made of the value."""
    made: list[tuple[str, ...]] = []

    def make(*exposed: str) -> int:
        made.append(exposed)
        return len(made)

    assert Secret("sk-1").exposed == ("sk-1",)
    secret = Secret('{"a":"b"}', ["b", "c"])
    assert secret.exposed == ("b", "c")
    assert [
        secret.sought(make),
        secret.sought(make),
        secret.derived(make),
        secret.sought(make),
    ] == [1, 1, 2, 1]
    assert made == [("b", "c"), ('{"a":"b"}',)]
    assert secret == Secret('{"a":"b"}')
