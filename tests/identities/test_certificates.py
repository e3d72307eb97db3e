"""Which names of a client certificate count."""

from __future__ import annotations

import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.client_certificate import ClientsCa

from tollhouse.denial import Refused
from tollhouse.identities.certificates import Certificates

ID, NAME = "spiffe://prod.example.com/worker", "worker.internal"
KNOWN = Certificates({ID: "proj_a", NAME: "proj_b"}, "acme", (), time.time)
CA = ClientsCa()


def named(*names: x509.GeneralName) -> bytes:
    return x509.load_pem_x509_certificate(CA.signed(*names).cert.encode()).public_bytes(
        Encoding.DER
    )


@pytest.mark.parametrize(
    ("names", "project"),
    [
        ((x509.UniformResourceIdentifier(ID),), "proj_a"),
        ((x509.DNSName(NAME),), "proj_b"),
        ((x509.DNSName(NAME), x509.DNSName(NAME), x509.RFC822Name("a@b.test")), "proj_b"),
        # A name of one kind that is written as the other.
        ((x509.DNSName(ID),), ""),
        ((x509.UniformResourceIdentifier(NAME),), ""),
        ((x509.RFC822Name(NAME),), ""),
        ((x509.UniformResourceIdentifier(ID), x509.DNSName(NAME)), ""),
        ((x509.DNSName("*.internal"),), ""),
    ],
)
def test_a_name_is_of_its_kind(names: tuple[x509.GeneralName, ...], project: str) -> None:
    """A CA that checks DNS names alone gives nobody a SPIFFE ID, and the other way round."""
    if project:
        assert KNOWN.identify(named(*names)).projects == (project,)
        return
    with pytest.raises(Refused) as caught:
        KNOWN.identify(named(*names))
    assert caught.value.denial.code == "identity_unknown"
