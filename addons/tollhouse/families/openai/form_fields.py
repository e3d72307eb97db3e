"""The fields of a request that is JSON or a form, read strictly and by one set of names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from tollhouse.families.asked import Asked, Request
from tollhouse.families.formats.content import sent_as_json
from tollhouse.families.formats.document import LongString, named, parsed, refuse, shown
from tollhouse.families.formats.multipart import (
    Form,
    Part,
    form_of,
    is_multipart,
    sent_as_it_came,
)
from tollhouse.headers import Headers

MAX_MODEL: Final = 256
_WHOLE: Final = re.compile(r"[0-9]{1,9}")


class FormFields:
    """``sent_as_form``: the body is a form. The values of ``tree`` are texts then."""

    def __init__(
        self,
        tree: Mapping[str, Any],
        long: Mapping[str, LongString],
        of_form: Form | None = None,
        model_of_path: str = "",
    ) -> None:
        self.tree = tree
        self.form = of_form
        self.long = long
        self._model_of_path = model_of_path

    @property
    def sent_as_form(self) -> bool:
        return self.form is not None

    @property
    def files(self) -> tuple[Part, ...]:
        """The parts of a form that are files."""
        parts = () if self.form is None else self.form.parts
        return tuple(part for part in parts if part.filename is not None)

    def text(self, key: str) -> str:
        """ "" if there is none. Of a long string its beginning."""
        value = named(self.tree.get(key), self.long)
        if value is not None and not isinstance(value, str):
            refuse(f'"{key}" must be a string.')
        return value or ""

    def size(self, key: str) -> tuple[int, int]:
        """Characters and bytes of a text. Of a long string the characters are its bytes: there are
        not more."""
        value = self.tree.get(key)
        long = self.long.get(value) if isinstance(value, str) else None
        if long is not None:
            return long.bytes, long.bytes
        text = self.text(key)
        return len(text), len(text.encode("utf-8", "surrogatepass"))

    def model(self) -> str:
        """That of the path, where it names one."""
        model = self.text("model") or self._model_of_path
        if not model:
            refuse('The body has no "model"; name it, for what it costs depends on it.')
        if len(model) > MAX_MODEL or not model.isprintable():
            refuse(f'"model" must be a string of 1 to {MAX_MODEL} printable characters.')
        return self._model_of_path or model

    def integer(self, key: str, low: int, high: int) -> int | None:
        value = self.tree.get(key)
        if self.form is not None and isinstance(value, str):
            value = int(value) if _WHOLE.fullmatch(value) else value
        if value is None:
            return None
        if type(value) is not int or not low <= value <= high:
            refuse(f'"{key}" must be a whole number from {low} to {high}.')
        return value

    def flag(self, key: str) -> bool:
        value = self.tree.get(key)
        if self.form is not None and isinstance(value, str):
            value = {"true": True, "false": False}.get(value, value)
        if value is not None and not isinstance(value, bool):
            refuse(f'"{key}" must be true or false.')
        return value or False


def form_fields(
    request: Request,
    known: Collection[str],
    lists: Collection[str] = (),
    files: Collection[str] = (),
) -> FormFields:
    """The body's fields. Raises Refused("bad_request") if it can't be read in exactly one way.

    Of a form, fields of ``known`` are texts, except those of ``files``; a field of ``lists`` may
    come several times, and only its first value is kept.
    """
    if not is_multipart(request.headers):
        document = parsed(request.body)
        for key in document.tree:
            if key not in known and (folded := key.casefold()) in known:
                refuse(f'The body has the key {shown(key)}; it is "{folded}", in lower case.')
        return FormFields(document.tree, document.long, model_of_path=request.model)
    found = form_of(request, known, lists)
    tree: dict[str, Any] = {}
    for part in found.parts:
        if part.base in known and part.base not in files:
            tree.setdefault(part.base, found.text(part))
    return FormFields(tree, {}, found, request.model)


def sent_headers(headers: Headers, asked: Asked) -> Headers:
    """A form keeps its content type. All else is sent as JSON. A body that is empty has no type."""
    if asked.document is None:
        return headers
    form_sent = isinstance(asked.document, FormFields) and asked.document.sent_as_form
    return (sent_as_it_came if form_sent else sent_as_json)(headers, asked)
