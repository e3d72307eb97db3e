"""The one object in which a provider's key lives. Hiding it is an obligation of the type, not of a log filter."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any, Final, Never, NoReturn, cast

_FINGERPRINT_DOMAIN: Final = b"tollhouse key fingerprint\0"


class Secret:
    """A provider's key. Text forms of it are redacted, it can't be pickled, and a copy of it is the object itself.

    ``fingerprint`` tells keys apart in lines and metrics: 8 hexadecimal digits (32 bits) of SHA-256 over a
    fixed prefix and the key. It is not keyed by a random value, so that it is the same on every replica and after a
    restart; the prefix keeps it from being looked up in, or joined with, anyone's plain SHA-256 of the same key. A
    provider's key has over 100 random bits, so its fingerprint says nothing; a key that a person made up could be
    confirmed by whoever guesses it.

    ``digest`` is all of that hash, never shown. What is remembered of a key for others goes by it: somebody who may put a
    key of their own into the store finds one with another's fingerprint in minutes, but none with its digest.

    ``exposed`` are the strings that leave with a request and that an answer must therefore not repeat: the key itself,
    unless it is said what else (what is signed with does not leave, and what is minted from it is a secret of its own).
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
        digest = hashlib.sha256(_FINGERPRINT_DOMAIN + value.encode("utf-8", "surrogatepass")).hexdigest()
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "fingerprint", digest[:8])

    def reveal(self) -> str:
        """The key itself: for the header of one attempt, never for a name that outlives it."""
        return self._value

    def derived[T](self, make: Callable[[str], T]) -> T:
        """What ``make``, a function of a module, makes of the key: made once, and kept in here, so that it lives nowhere
        else and no longer than the key."""
        if make not in self._derived:
            self._derived[make] = make(self._value)
        return cast(T, self._derived[make])

    def sought[T](self, make: Callable[..., T]) -> T:
        """What ``make`` makes of `exposed`, kept as by `derived`."""
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
        """Takes as long for keys that differ early as for keys that differ late."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._value.encode("utf-8", "surrogatepass"), other._value.encode("utf-8", "surrogatepass")
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        # `dataclasses.asdict` comes this way.
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
