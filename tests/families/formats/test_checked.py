"""Members of a body are of their type, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tollhouse.denial import Refused
from tollhouse.families.formats.checked import known_case, model, name, optional, whole
from tollhouse.families.formats.document import Document


def document(**tree: Any) -> Document:
    return Document(tree, {})


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (lambda: known_case({"Model": 1}, {"model"}), 'it is "model", in lower case'),
        (lambda: known_case({"Cap": 1}, {"cap"}, "a."), 'it is "a.cap", in lower case'),
        (lambda: optional({"a": 1}, "a", bool), '"a" must be true or false'),
        (lambda: optional({"a": True}, "a", int), '"a" must be a whole number'),
        (lambda: optional({"a": []}, "a", dict, "b."), '"b.a" must be an object'),
        (lambda: whole({"a": True}, "a", 0), '"a" must be a whole number from 0'),
        (lambda: whole({"a": 1.0}, "a", 0), '"a" must be a whole number from 0'),
        (lambda: whole({"a": 6}, "a", 1, 5), "from 1 to 5"),
        (lambda: name(document(a=""), "a"), '"a" must be a string of 1 to 256'),
        (lambda: name(document(a="x" * 257), "a"), '"a" must be a string of 1 to 256'),
        (lambda: name(document(a="\n"), "a"), '"a" must be a string of 1 to 256'),
        (lambda: name(document(a=["b"]), "a"), '"a" must be a string of 1 to 256'),
        (lambda: model(document()), 'no "model"'),
        (lambda: model(document(model=None)), 'no "model"'),
    ],
)
def test_what_is_refused(act: Callable[[], object], why: str) -> None:
    """With a sentence that says what is to be there."""
    with pytest.raises(Refused) as refused:
        act()
    assert refused.value.denial.code == "bad_request"
    assert why in refused.value.denial.why


def test_what_is_taken() -> None:
    """Null is as good as nothing."""
    known_case({"a": 1, "model": 2, "B": 3}, {"model"})
    assert optional({"a": None}, "a", str) is None
    assert optional({}, "a", str) is None
    assert optional({"a": False}, "a", bool) is False
    assert whole({"a": 5}, "a", 1, 5) == 5
    assert whole({"a": None}, "a", 1) is None
    assert name(document(a="b"), "a") == "b"
    assert name(document(), "a") == ""
    assert model(document(model="m")) == "m"
