"""The one object in which a provider's key lives. Hiding it is an obligation of the type, not of a log filter."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any, Final, Never, NoReturn, cast

_FINGERPRINT_DOMAIN: Final = b"tollhouse key fingerprint\0"


class Secret:
    """A provider's key. Its text forms are redacted, it can't be pickled, and a copy of it is the
    object itself.

    ``fingerprint`` tells keys apart in lines and metrics. It is 8 hexadecimal digits (32 bits) of
    SHA-256 over a fixed prefix and the key. There is no random value in it, so it is the same on
    every replica and after a restart. The prefix keeps the fingerprint from being compared with
    anyone's plain SHA-256 of the same key. A provider's key has over 100 random bits, so its
    fingerprint says nothing about it. A key that a person made up could be confirmed by somebody
    who guesses it.

    ``digest`` is the whole hash, and is never shown. Pauses and breakers know a key by its digest.
    Somebody who may put a key into the store can make one with another key's fingerprint in
    minutes, but none with its digest.

    ``exposed`` are the strings that leave with a request, which an answer must not repeat. Without
    it that is the key itself. A key that only signs does not leave. A token that is minted from a
    key is a secret of its own.
    """

    __slots__ = ("_derived", "_value", "digest", "exposed", "fingerprint")

    _value: str
    _derived: dict[object, object]
    exposed: tuple[str, ...]
    digest: str
    fingerprint: str

    def __init__(self, value: str, exposed: Sequence[str] | None = None) -> None:
        object.__setattr__(self, "_value", value)
        object.__setattr__(self, "exposed", (value,) if exposed is None else tuple(exposed))
        object.__setattr__(self, "_derived", {})
        digest = hashlib.sha256(
            _FINGERPRINT_DOMAIN + value.encode("utf-8", "surrogatepass")
        ).hexdigest()
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "fingerprint", digest[:8])

    def reveal(self) -> str:
        """The key itself, for the header of one attempt. No variable that outlives the attempt may
        hold it."""
        return self._value

    def derived[T](self, make: Callable[[str], T]) -> T:
        """The result of ``make`` for the key. ``make`` is a function of a module. The result is
        made once and kept in this object, so that it lives nowhere else and no longer than the
        key."""
        if make not in self._derived:
            self._derived[make] = make(self._value)
        return cast(T, self._derived[make])

    def sought[T](self, make: Callable[..., T]) -> T:
        """The result of ``make`` for `exposed`, kept as `derived` keeps it."""
        place = ("sought", make)
        if place not in self._derived:
            self._derived[place] = make(*self.exposed)
        return cast(T, self._derived[place])

    def __repr__(self) -> str:
        return f"Secret(redacted, fingerprint={self.fingerprint})"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        """Takes the same time wherever the two keys begin to differ."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._value.encode("utf-8", "surrogatepass"),
            other._value.encode("utf-8", "surrogatepass"),
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        # `dataclasses.asdict` calls this.
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")

    def __setattr__(self, name: str, value: Never) -> None:
        raise AttributeError("a Secret does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Secret does not change")
