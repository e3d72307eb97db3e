"""Leases, made of what the store has at one path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tollhouse.credential.entry import Leases
from tollhouse.credential.fields import contents
from tollhouse.credential.lease import CredentialUnavailable, Lease, Malformed, RawSecret, Reader
from tollhouse.credential.paths import fill, is_shared


class LeaseReader:
    """``templates`` are the paths of `KeyCache`, and ``field``, ``account_headers`` and ``judge`` are its own too. ``place``
    stands before each path in messages."""

    def __init__(
        self,
        reader: Reader,
        templates: Sequence[str],
        field: str,
        place: str,
        account_headers: Mapping[str, str],
        judge: Callable[[Lease, str], None],
    ) -> None:
        self._reader = reader
        self._templates = templates
        self._field = field
        self._place = place
        self._account_headers = account_headers
        self._judge = judge

    def read(self, path: str, known: Leases, provider: str) -> Leases:
        """Reads the path; runs in a thread. A key that has not changed stays in the same object.
        Without ``provider`` the keys are not judged."""
        raw = self._reader.read(path)
        if raw is None:
            return ()
        try:
            return self._leases(raw, path, known, provider)
        except CredentialUnavailable as error:
            why = error.why
        raise Malformed(why, raw.version)

    def _leases(self, raw: RawSecret, path: str, known: Leases, provider: str) -> Leases:
        found = contents(raw, self._field, self._place + path, self._account_headers)
        before = {lease.secret: lease for lease in known}
        leases = []
        for secret in found.secrets:
            kept = before.get(secret)
            if kept is not None:
                secret = kept.secret
            lease = Lease(
                secret,
                raw.version,
                secret.fingerprint,
                path,
                found.kind,
                found.headers,
                self._is_shared(path, provider),
                raw.created,
            )
            if provider:
                self._judge(lease, provider)
            leases.append(kept if kept == lease else lease)
        return tuple(leases)

    def _is_shared(self, path: str, provider: str) -> bool:
        """A path that a shared template gives is shared, even if another template gives it too."""
        if not provider:
            return True
        common = (one for one in self._templates if is_shared(one))
        return path in [fill(one, provider, "", "") for one in common]
