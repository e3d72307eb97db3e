"""TLS with providers: what is trusted, and the certificates that we show."""

from __future__ import annotations

import os
import ssl

import certifi

from tollhouse.credential.lease import CredentialUnavailable
from tollhouse.credential.secret import Secret
from tollhouse.providers import Catalog


def tls_contexts(catalog: Catalog) -> dict[str | None, ssl.SSLContext]:
    """One context for each ca_file, because making one takes 20 ms. Raises ValueError."""
    contexts: dict[str | None, ssl.SSLContext] = {}
    wanted = [
        (f"providers.{provider.name}", provider.ca_file)
        for provider in catalog.providers
        if not provider.unsafe_plaintext
    ]
    wanted += [
        (f"the upstream proxy of {provider.name}", provider.upstream_proxy.ca_file)
        for provider in catalog.providers
        if provider.upstream_proxy is not None and provider.upstream_proxy.tls
    ]
    for where, ca_file in wanted:
        if ca_file in contexts:
            continue
        try:
            contexts[ca_file] = tls_context(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"{where}: ca_file {ca_file} cannot be used ({error}); "
                "it must be a readable PEM file of CA certificates"
            ) from None
    return contexts


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """``ca_file`` None: the public roots. Raises OSError and ssl.SSLError."""
    # ssl.create_default_context is not used: it reads SSL_CERT_FILE, and writes keys to
    # SSLKEYLOGFILE if the environment says so.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.hostname_checks_common_name = False
    context.load_verify_locations(cafile=ca_file or certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def with_certificate(
    ca_file: str | None, path: str, certificate: Secret, key: Secret
) -> ssl.SSLContext:
    """A context that shows the client certificate from ``path`` of the store: PEM, the chain behind it. Raises
    `CredentialUnavailable`."""
    context = tls_context(ca_file)
    try:
        # OpenSSL reads a key from a file. This one is memory of the process, and has no name.
        fd = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
        with os.fdopen(fd, "wb", buffering=0) as file:
            file.write(f"{certificate.reveal().strip()}\n{key.reveal().strip()}\n".encode())
            # A key with a password would be asked for at the terminal.
            context.load_cert_chain(f"/proc/self/fd/{fd}", password=lambda: "")
    except (ssl.SSLError, OSError, ValueError):
        raise CredentialUnavailable(
            f"The fields cert and key of {path} are not a PEM certificate and its key without a password."
        ) from None
    return context
