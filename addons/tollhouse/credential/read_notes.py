"""What is noted of a read of one path, and what the log says of it. No key stands in either."""

from __future__ import annotations

import logging

from tollhouse.credential.entry import Leases, PathNotes, told_of
from tollhouse.credential.lease import CredentialUnavailable, Malformed, StoreAway
from tollhouse.refreshed import Ended

_log = logging.getLogger("tollhouse.credential")


def note(notes: PathNotes, place: str, read: Ended[Leases]) -> None:
    """Notes how a read of ``place`` ended, and writes to the log what is new."""
    known = (read.before.value if read.before is not None else None) or ()
    before, error = read.error_before, read.error
    if read.told is not None:
        leases = read.told.value or ()
        if before is not None:
            _log.info("%s can be read again", place)
        if known and not leases:
            _log.warning("%s is gone; it was %s", place, told_of(known))
        elif leases != known:
            _log.info("%s is %s", place, told_of(leases))
        notes.reads["value" if leases else "missing"] += 1
        notes.asked_again = {
            key: until for key, until in notes.asked_again.items() if until > read.ended_at
        }
        notes.malformed = None
        return
    why = error.why if isinstance(error, CredentialUnavailable) else type(error).__name__
    notes.failed_at = read.ended_at
    age_s = read.ended_at - read.before.at if read.before is not None else 0.0
    kept = f"{told_of(known)}, {age_s:.0f} s old, serves on" if known else "none is kept"
    if isinstance(error, Malformed):
        notes.reads["malformed"] += 1
        if notes.malformed != (error.version, why):
            notes.malformed = (error.version, why)
            notes.versions_refused += 1
            _log.error(
                "version %s of %s is refused; %s. %s", error.version or "?", place, kept, why
            )
    elif isinstance(error, StoreAway):
        notes.reads["away"] += 1
        if before is None:
            _log.warning("%s can't be read; %s. %s", place, kept, why)
    else:
        notes.reads["refused"] += 1
        if before is None or not isinstance(before, CredentialUnavailable) or before.why != why:
            _log.error("there is no key from %s. %s", place, why)
